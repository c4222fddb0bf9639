"""SANAS on cnn-trad-fpool3 with shortcuts: the network and recipe of the paper (ICASSP 2019).

137.3M MACs with everything on, 518,656 on the cheapest path. Beyond the authors' recipe: normalised
features, branches scaled to start with a sum of He's variance, warm-up and cosine decay, gradient
clipping; γ = 1.

    python -m experiments.launch --config experiments/configs/kws_paper.py --data cache --workdir W
"""

from experiments.config import Config, TrainConfig


def get_config() -> Config:
    """The paper's network, batch 64, 2000 steps."""
    return Config(
        description="SANAS, cnn-trad-fpool3 with shortcuts (ICASSP 2019)",
        train=TrainConfig(steps=2000, eval_every=200, cost_weight=0.1),
    )
