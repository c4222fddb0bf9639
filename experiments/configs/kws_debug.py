"""Seconds, not minutes: 4 maps, 20 steps. For trying out data, flags and code.

python -m experiments.launch --config experiments/configs/kws_debug.py --data cache --workdir W
"""

from experiments.config import Config, ModelConfig, TrainConfig


def get_config() -> Config:
    """4 maps, batch 8, 20 steps."""
    return Config(
        description="smoke test",
        model=ModelConfig(maps=(4, 4), state_size=16),
        train=TrainConfig(
            steps=20, batch_size=8, warmup_steps=2, log_every=5, eval_every=10, eval_batches=1
        ),
    )
