"""What features cost: the only place where a front end is counted, for all tables and ledgers.

In multiply-accumulates, as networks are: an addition alone or a multiplication alone counts as one.
What is counted is what is run, in one of three forms.

native: of the C file. A real FFT as a complex one of n/2 points, and of the mel matrix the weights
    that are not 0.
fft: of XLA on a CPU, for a step's frames. The same transform; the mel matrix is multiplied whole.
convolution: of XLA for batches, and on other devices. The transform is n_fft × 2 bins products.

An FFT of m complex points is counted as 5 m log2 m operations (as the FFTW benchmark does), of
which two are a multiply-accumulate; taking apart the even and odd samples as six for each bin. What
a library's own transform really does may differ somewhat.

Beside a network it is a step's frames that are counted. Where a network makes bands itself
(`blocks.audio.LogMel`) this is an edge's cost, for all frames of a window as of any convolution:
816k up to 7600 Hz, of which a step's new rows are 162k. Totals of the two are not comparable.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import numpy as np

from sanas_jax.data.features import Frontend

FORMS = ("native", "fft", "convolution")
LOG = 14  # of a logarithm: a polynomial of degree nine, and five more to put it together


class FrontendCost(NamedTuple):
    """Multiply-accumulates of some frames.

    Fields:
      transform: window, transform, power of the bins that the mel matrix uses.
      mel: the mel matrix.
      log: logarithms, the cosine transform of MFCC, normalisation.
    """

    transform: int
    mel: int
    log: int

    @property
    def total(self) -> int:
        """Of all."""
        return sum(self)


def frontend_cost(frontend: Frontend, frames: int, form: str = "native") -> FrontendCost:
    """Of so many frames in one of `FORMS`; ValueError for another."""
    if form not in FORMS:
        raise ValueError(f"form: expected one of {FORMS}, got {form!r}")
    if frontend.raw:  # what a network makes of samples is counted with its edges
        return FrontendCost(0, 0, 0)
    n, bins = frontend.n_fft, frontend.num_bins
    bands, outputs = frontend.mel.shape[0], frontend.mean.shape[0]
    power = 2 * bins
    if form == "convolution":
        transform = n * 2 * bins  # the window is part of the matrix
    else:
        transform = n + round(5 * (n / 2) * log2(n / 2) / 2) + 6 * bins
    mel = int(np.count_nonzero(frontend.mel)) if form == "native" else bands * bins
    log = LOG * bands + (bands * outputs if frontend.cepstral else 0) + outputs
    return FrontendCost(*(frames * macs for macs in (transform + power, mel, log)))
