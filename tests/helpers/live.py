"""What the tests of the live page share: a small model, and audio at which it fires."""

import io

import numpy as np
import soundfile

from experiments.live.engine import Engine, runtime_of
from experiments.runs.trained import read_model
from tests.helpers.packed import write_conditioned_run

RATE = 16000


def small_engine(folder):
    """Of a network that nobody trained: at threshold 0 whatever is likeliest is fired."""
    write_conditioned_run(folder / "run")
    model = read_model(folder / "run")
    return Engine(model, runtime_of(model), 0.5, threshold=0.0)


def noise(seconds, seed=0):
    """float32 at 16 kHz, whose colour changes every second, as 16 bits hold it."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(seconds):
        tone = np.sin(2 * np.pi * rng.uniform(100, 4000) * np.arange(RATE) / RATE)
        pieces.append(rng.uniform(0, 0.4) * tone + 0.05 * rng.standard_normal(RATE))
    return (32767 * np.concatenate(pieces).clip(-1, 1)).astype(np.int16).astype(np.float32) / 32768


def wav_bytes(samples, rate=RATE, subtype="PCM_16"):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype=subtype)
    return out.getvalue()
