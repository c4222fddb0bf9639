"""BSN on scikit-learn's digits: a convolutional neural fabric at a quarter of its MACs.

    python -m experiments.launch --config experiments/configs/bsn_digits.py
    python -m experiments.launch --config experiments/configs/bsn_digits.py --workdir runs/full \
        --set model.static=true --set train.budget=none

The images come with scikit-learn: nothing is downloaded. The first command learns the architecture,
the second the whole fabric, for comparison.
"""

from experiments.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """3 layers × 4 scales of 16 channels; Γ begins with nearly everything on."""
    return Config(
        description="B-CNF on digits at 25 % of its MACs",
        model=ModelConfig(family="fabric", depth=3, maps=(16,), cell="constant", gate_bias=2.0),
        data=DataConfig(cache="digits", pad=1),
        train=TrainConfig(
            steps=800,
            batch_size=64,
            samples=2,
            learning_rate=2e-2,
            controller_learning_rate=2e-2,
            controller_delay_steps=100,
            class_weighted=False,
            budget=0.25,
            budget_rate=0.005,
            budget_damping=0.5,
            budget_ramp_steps=400,
            cost_weight=0.0,
            report_costs=("params", "parallel"),
            log_every=25,
            eval_every=200,
        ),
    )
