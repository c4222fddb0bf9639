"""A gated separable temporal network, 2.3M MACs: the space and the recipe of today.

    python -m experiments.launch --config experiments/configs/kws_modern.py --data cache \
        --workdir runs/full --set model.static=true
    python -m experiments.launch --config experiments/configs/kws_modern.py --data cache \
        --workdir runs/sanas --init_from runs/full --set train.steps=2000 \\
        --set train.learning_rate=1e-3
"""

from experiments.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """Streams of 3 s with up to three words, perturbed and masked; AdamW, averaged weights."""
    return Config(
        description="separable temporal network with exits",
        model=ModelConfig(family="separable", gate_bias=0.7, state_size=32),
        data=DataConfig(
            features="log-mel",
            min_seconds=3.0,
            max_seconds=3.0,
            words_per_item=2,
            cut_words=True,
            unknown_fraction=0.4,
            silence_fraction=0.3,
            balance=True,
            unclear_weight=0.3,
            speed_range=(0.82, 1.2),
            gain_range=(0.4, 1.6),
            time_masks=2,
            time_mask_frames=15,
            frequency_masks=2,
            frequency_mask_bins=6,
        ),
        train=TrainConfig(
            steps=10000,
            eval_every=500,
            learning_rate=4e-3,
            relative=False,
            warmup_steps=200,
            weight_decay=0.03,
            decoupled=True,
            max_grad_norm=2.0,
            class_weight_power=0.5,
            label_smoothing=0.1,
            average_decay=0.998,
            controller_learning_rate=3e-3,
            controller_delay_steps=50,
            cost_weight=1.0,
            discount=0.0,
            entropy_weight=0.01,
            full_weight=1.0,
            distill_weight=1.0,
        ),
    )
