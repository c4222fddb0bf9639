"""BSN's B-CNF on CIFAR-10: 8 layers × 6 scales of 64 channels, 819M MACs.

    python -m data_prep.prepare_images --data cifar-10-binary.tar.gz --out cache
    python -m experiments.sweep --config experiments/configs/bsn_cifar.py --data cache \
        --budgets=10%,25%,50%

For a GPU.
"""

from experiments.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """The paper's size and augmentation; the optimiser's settings are those of the digits."""
    return Config(
        description="B-CNF on CIFAR-10",
        model=ModelConfig(family="fabric", depth=8, maps=(64,), cell="constant", gate_bias=3.0),
        data=DataConfig(pad=4, flip=True),
        train=TrainConfig(
            steps=80_000,
            batch_size=64,
            samples=2,
            learning_rate=2e-2,
            controller_learning_rate=5e-3,
            controller_delay_steps=8_000,
            class_weighted=False,
            budget=0.25,
            budget_rate=2e-4,
            budget_ramp_steps=20_000,
            cost_weight=0.0,
            report_costs=("params",),
            eval_every=1_000,
        ),
    )
