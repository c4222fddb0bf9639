"""One's own words, from 20 to 50 recordings of each, in a few minutes on 2 cores.

    python -m data_prep.prepare --data recordings --pattern '{word}_{speaker}_{n}.wav' --out cache
    python -m experiments.launch --config experiments/configs/own_words.py --data cache \
        --workdir runs/mine --init_from runs/static

It goes on from the features of a network that learnt other words, a static run of `kws_small`;
what leads to the answer begins anew.
"""

from experiments.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    """The static network of `kws_small`; words are drawn evenly, however many clips each has."""
    return Config(
        description="cnn-trad-fpool3 with shortcuts, 16 maps, one's own words",
        model=ModelConfig(maps=(16, 16), gate_bias=0.7, static=True),
        data=DataConfig(balance=True),
        train=TrainConfig(
            steps=800,
            batch_size=32,
            learning_rate=1e-2,
            eval_every=200,
            eval_batches=4,
        ),
    )
