"""BSN on Fashion-MNIST: a convolutional neural fabric at half of its MACs, on a CPU.

    python -m data_prep.prepare_images --data fashion-mnist --out fashion
    python -m experiments.launch --config experiments/configs/bsn_fashion.py --data fashion
    python -m experiments.launch --config experiments/configs/bsn_fashion.py --data fashion \
        --workdir runs/fashion_full --set model.static=true --set train.budget=none

84.3 % at 26 % of the MACs, 84.6 % with everything on; after 3,000 steps 88.6 and 88.7 %
(docs/results.md). The four idx files (MIT licence) are those of
github.com/zalandoresearch/fashion-mnist; Debian has them as the package dataset-fashion-mnist, in
/usr/share/datasets/fashion-mnist.
"""

from experiments.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """3 layers × 6 scales of 8 channels, far narrower than the paper's; as `bsn_digits` else."""
    return Config(
        description="B-CNF on Fashion-MNIST at 50 % of its MACs",
        model=ModelConfig(family="fabric", depth=3, maps=(8,), cell="constant", gate_bias=2.0),
        data=DataConfig(flip=True),
        train=TrainConfig(
            steps=1000,
            batch_size=64,
            samples=2,
            learning_rate=2e-2,
            controller_learning_rate=2e-2,
            controller_delay_steps=200,
            class_weighted=False,
            budget=0.5,
            budget_rate=0.005,
            budget_damping=0.5,
            budget_ramp_steps=500,
            cost_weight=0.0,
            report_costs=("params",),
            log_every=25,
            eval_every=250,
        ),
    )
