"""Wake-word detectors that people use, as their packages ship them: pymicro and pyopen-wakeword.

Neither is a dependency: `pip install pymicro-wakeword pyopen-wakeword`. Models are inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# How often a recording, int16 [n] at 16 kHz, makes a detector fire; it begins anew each time.
Count = Callable[[np.ndarray], int]
RATE = 16_000
CHUNK = 1280  # samples handed over at once
OPEN_THRESHOLD = 0.5  # of pyopen-wakeword's own command
WAIT = 2 * RATE  # one that has fired is not asked again for so many samples


def micro_wake_word(word: str) -> Count:
    """microWakeWord's model of a word, at its own cutoff.

    ImportError without the package, ValueError for a word that it does not have.
    """
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    engine, features = MicroWakeWord.from_builtin(Model(word)), MicroWakeWordFeatures()
    return _counting(engine, features, lambda found: engine.process_streaming(found) or False)


def open_wake_word(word: str) -> Count:
    """openWakeWord's model of a word; raises as `micro_wake_word`."""
    from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

    engine, features = OpenWakeWord.from_builtin(Model(word)), OpenWakeWordFeatures.from_builtin()

    def fires(found: np.ndarray) -> bool:
        return max(engine.process_streaming(found), default=0.0) > OPEN_THRESHOLD

    return _counting(engine, features, fires)


def _counting(engine: Any, features: Any, fires: Callable[[np.ndarray], bool]) -> Count:
    def heard(samples: np.ndarray) -> Iterable[np.ndarray]:
        found: Iterable[np.ndarray] = features.process_streaming(samples.tobytes())
        return found

    def count(samples: np.ndarray) -> int:
        engine.reset()
        features.reset()
        total, silent_until = 0, 0
        for at in range(0, len(samples), CHUNK):
            # All of a chunk is looked at, fired or not: engines keep what they have heard.
            fired = [fires(found) for found in heard(samples[at : at + CHUNK])]
            if any(fired) and at >= silent_until:
                total, silent_until = total + 1, at + WAIT
        return total

    return count
