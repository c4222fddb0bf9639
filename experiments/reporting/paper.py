"""The SANAS paper's own numbers."""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """A row of table 1 of the SANAS paper: %, and millions of MACs per frame."""

    model: str
    match: float
    correct: float
    wrong: float
    false_alarm: float
    million_macs: float


# Veniat, Schwander & Denoyer, ICASSP 2019, table 1; the second is the whole super-network.
PAPER = (
    Reference("cnn-trad-fpool3", 81.7, 72.8, 8.9, 0.0, 124.6),
    Reference("cnn-trad-fpool3 + shortcuts", 82.9, 77.9, 5.0, 0.3, 137.3),
    Reference("SANAS", 61.2, 53.8, 7.3, 0.7, 0.5192),
    Reference("SANAS", 62.0, 57.3, 4.8, 0.1, 22.9),
    Reference("SANAS", 86.5, 80.7, 5.8, 0.3, 37.7),
    Reference("SANAS", 86.3, 80.6, 5.7, 0.2, 48.8),
    Reference("SANAS", 81.7, 76.4, 5.3, 0.1, 94.0),
    Reference("SANAS", 81.4, 76.3, 5.2, 0.2, 105.4),
)
PAPER_WHOLE = PAPER[1].million_macs
