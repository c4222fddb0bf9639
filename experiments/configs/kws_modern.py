"""A gated separable temporal network, 2.3M MACs: today's blocks and today's recipe, on a CPU.

    python -m experiments.launch --config experiments/configs/kws_modern.py --data cache \
        --workdir runs/full
    python -m experiments.launch --config experiments/configs/kws_modern_sanas.py --data cache \
        --workdir runs/any --init_from runs/full

The first trains everything on; the second trains one network that is told its price.
"""

from experiments.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """Streams of 3 s with up to two words, perturbed and masked; AdamW, averaged weights."""
    return Config(
        description="separable temporal network with exits",
        model=ModelConfig(family="separable", static=True),
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
        ),
    )
