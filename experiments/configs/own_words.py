"""One's own words, from 20 to 100 recordings of each, in a few minutes on 2 cores.

    python -m data_prep.prepare --data recordings --pattern '{word}_{speaker}_{n}.wav' --out cache
    python -m experiments.launch --config experiments/configs/own_words.py --data cache \
        --workdir runs/mine

It goes on from the features of the model that comes with the package, which learnt other words;
what leads to the answer begins anew.
"""

import dataclasses

from experiments.config import Config
from experiments.configs import kws_modern


def get_config() -> Config:
    """The network and the streams of `kws_modern`, in fewer and smaller steps."""
    base = kws_modern.get_config()
    data = dataclasses.replace(base.data, unknown_fraction=0.2)
    train = dataclasses.replace(
        base.train,
        init_from="pretrained:kws_modern",
        steps=800,
        warmup_steps=100,
        learning_rate=2e-3,
        eval_every=200,
        eval_batches=4,
        average_decay=0.99,
    )
    return dataclasses.replace(base, description="one's own words", data=data, train=train)
