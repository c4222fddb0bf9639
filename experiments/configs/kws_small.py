"""The paper's graph with 16 maps per convolution: 16.8M MACs, for CPUs.

python -m experiments.launch --config experiments/configs/kws_small.py --data cache --workdir W
"""

from experiments.config import Config, ModelConfig, TrainConfig


def get_config() -> Config:
    """16 maps, batch 64, 3000 steps: about a quarter of a second per step on 2 cores."""
    return Config(
        description="cnn-trad-fpool3 with shortcuts, 16 maps",
        model=ModelConfig(maps=(16, 16)),
        train=TrainConfig(steps=3000, eval_every=250, cost_weight=0.1),
    )
