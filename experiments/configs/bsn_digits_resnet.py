"""BSN on scikit-learn's digits: a ResNet fabric at a quarter of its MACs.

python -m experiments.launch --config experiments/configs/bsn_digits_resnet.py
"""

import dataclasses

from experiments.config import Config, ModelConfig
from experiments.configs import bsn_digits


def get_config() -> Config:
    """Three groups of two blocks, 8, 16 and 32 maps, with shortcuts left, straight and right."""
    model = ModelConfig(
        family="resnet-fabric", depth=2, maps=(8, 16, 32), cell="constant", gate_bias=2.0
    )
    return dataclasses.replace(
        bsn_digits.get_config(),
        description="ResNet fabric on digits at 25 % of its MACs",
        model=model,
    )
