"""SANAS on cnn-trad-fpool3 with shortcuts: the network of the paper (ICASSP 2019).

137.3M MACs with everything on, 518,656 on the cheapest path. As in the authors' recipe: mixing,
features, GRU of 100, batch 64, γ = 0, class-weighted loss. Beyond it: normalised features, branches
scaled so that their sum starts at He's variance, relative steps with warm-up and cosine decay,
eight architectures per stream for a baseline, gates that start at p = 0.67 and a controller that
waits.

    python -m experiments.launch --config experiments/configs/kws_paper.py --data cache \
        --workdir runs/static --set model.static=true
    python -m experiments.launch --config experiments/configs/kws_paper.py --data cache \
        --workdir runs/sanas --init_from runs/static --set train.steps=1000
"""

from experiments.config import Config, ModelConfig, TrainConfig


def get_config() -> Config:
    """The paper's network, batch 64: one to three seconds per step on 2 cores."""
    return Config(
        description="SANAS, cnn-trad-fpool3 with shortcuts (ICASSP 2019)",
        model=ModelConfig(gate_bias=0.7),
        train=TrainConfig(
            steps=3000,
            eval_every=250,
            controller_learning_rate=3e-3,
            controller_delay_steps=50,
            cost_weight=1.0,
            discount=0.0,
            entropy_weight=0.01,
        ),
    )
