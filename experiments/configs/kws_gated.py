"""`kws_modern_sanas.py` with the front end under the gates: bands are computed where they are read.

    python -m experiments.launch --config experiments/configs/kws_gated.py --data cache \
        --workdir runs/gated --init_from runs/full

The cache is one with `prepare --max_hz 7600`, running speech and sounds (`--negatives`); the run
`runs/full` is static, on log-mel bands of it. A controller that has learnt without this choice, as
that of `pretrained:kws`, is too sure of its bands to leave them out (docs/measurements.md).
"""

import dataclasses

from experiments.config import Config
from experiments.configs import kws_modern_sanas


def get_config() -> Config:
    """The streams that `pretrained:kws` has learnt on, without masks."""
    base = kws_modern_sanas.get_config()
    model = dataclasses.replace(base.model, family="separable-gated", max_hz=7600.0)
    data = dataclasses.replace(
        base.data,
        features="samples",
        snr_range_db=(0.0, 45.0),
        speed_range=(0.9, 1.1),
        time_masks=0,
        frequency_masks=0,
        negative_speech=0.25,
        negative_sounds=0.3,
    )
    train = dataclasses.replace(base.train, steps=3000, label_smoothing=0.0)
    return dataclasses.replace(
        base, description="front end under the gates", model=model, data=data, train=train
    )
