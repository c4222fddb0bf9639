"""The paper's graph with 16 maps per convolution: 16.8M MACs, for CPUs.

    python -m experiments.launch --config experiments/configs/kws_small.py --data cache \
        --workdir runs/static --set model.static=true
    python -m experiments.launch --config experiments/configs/kws_small.py --data cache \
        --workdir runs/sanas --init_from runs/static --set train.steps=1000

The second run starts from the first one's network; its controller waits until the network has
learnt to work in parts.
"""

from experiments.config import Config, ModelConfig, TrainConfig


def get_config() -> Config:
    """16 maps, batch 64: about a quarter of a second per step on 2 idle cores."""
    return Config(
        description="cnn-trad-fpool3 with shortcuts, 16 maps",
        model=ModelConfig(maps=(16, 16), gate_bias=0.7),
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
