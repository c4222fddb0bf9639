"""The network of `kws_modern.py` in parts: one controller for every price of computation.

    python -m experiments.launch --config experiments/configs/kws_modern_sanas.py --data cache \
        --workdir runs/any --init_from runs/full
    python -m experiments.evaluate --workdir runs/any --stream stream.wav --budgets=0.3M,0.5M
"""

import dataclasses

from experiments.config import Config
from experiments.configs import kws_modern


def get_config() -> Config:
    """From the weights of the whole network, which goes on teaching the parts."""
    base = kws_modern.get_config()
    model = dataclasses.replace(
        base.model, static=False, conditioned=True, gate_bias=0.7, state_size=32
    )
    train = dataclasses.replace(
        base.train,
        steps=2500,
        eval_every=250,
        learning_rate=1e-3,
        controller_learning_rate=3e-3,
        controller_delay_steps=50,
        cost_weight_range=(0.03, 2.0),
        discount=0.0,
        entropy_weight=0.01,
        full_weight=1.0,
        distill_weight=1.0,
    )
    return dataclasses.replace(
        base, description="separable network under a controller", model=model, train=train
    )
