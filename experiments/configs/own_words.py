"""One's own words, one of them or several, from 20 to 300 recordings of each: told its price.

    python -m data_prep.prepare --data recordings --pattern '{word}_{speaker}_{n}.wav' \
        --negatives speech=talk --out cache
    python -m experiments.launch --config experiments/configs/own_words.py --data cache \
        --workdir runs/mine
    python -m experiments.calibrate --workdir runs/mine --data cache --false_alarms_per_hour 1

It goes on from the features of the model that comes with the package, which learnt other words;
what leads to the answer begins anew. Running speech between and under the words teaches it when to
be silent; `calibrate` chooses how sure it must be, and says what that will do in a room. Where the
cache has sounds too, `--set data.negative_sounds=0.3` has them as background.
"""

import dataclasses

from experiments.config import Config
from experiments.configs import kws_modern_sanas


def get_config() -> Config:
    """The network and the streams of `kws_modern_sanas`, in fewer and larger steps."""
    base = kws_modern_sanas.get_config()
    data = dataclasses.replace(base.data, unknown_fraction=0.2, negative_speech=0.3)
    train = dataclasses.replace(
        base.train,
        init_from="pretrained:kws",
        steps=800,
        warmup_steps=100,
        learning_rate=2e-3,
        eval_every=200,
        eval_batches=4,
        average_decay=0.99,
    )
    return dataclasses.replace(base, description="one's own words", data=data, train=train)
