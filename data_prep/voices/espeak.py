"""The espeak-ng synthesiser, called through ctypes on the library bundled with espeakng-loader.

The library keeps its state (voice, noise generators, echo) in globals: one `Speaker` a process,
and a fresh process wherever output must not depend on what was spoken before.
"""

import ctypes
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

# Accents of English that the library ships, by the names that it knows them by.
ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)
# Variants that are effects rather than voices.
_EFFECTS = ("robo", "Robot", "Demonic", "croak", "fast", "whisper")
_RETRIEVAL, _SYNCHRONOUS = 1, 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_CHARS_UTF8, _POS_CHARACTER = 1, 1
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclasses.dataclass(frozen=True)
class Voice:
    """A voice: a variant of the vocal tract, an accent, and prosody in espeak-ng's units."""

    variant: str
    accent: str
    pitch: int  # 0-99, 50 is the variant's own
    pitch_range: int  # 0-99, 50 is the variant's own
    rate: int  # words per minute


def _loader() -> Any:
    """The package that carries the library."""
    try:
        import espeakng_loader
    except ImportError:
        raise ValueError(
            "expected the package espeakng-loader, which holds the voices: "
            "pip install sanas-jax[synth]"
        ) from None
    return espeakng_loader


def variants() -> list[str]:
    """Names of the variants that speak reproducibly, sorted. ValueError without the package."""
    folder = Path(_loader().get_data_path()) / "voices" / "!v"
    return sorted(
        path.name
        for path in folder.iterdir()
        if not any(effect in path.name for effect in _EFFECTS)
        # Breath is never the same twice, whatever the seed of rand().
        and not any(line.startswith(b"breath") for line in path.read_bytes().splitlines())
    )


class Speaker:
    """The library, loaded and initialised in this process; `rate` is its sampling rate in Hz."""

    def __init__(self) -> None:
        loader = _loader()
        try:
            self._library = ctypes.CDLL(loader.get_library_path())
        except OSError as error:
            raise ValueError(f"expected a library that loads, got: {error}") from error
        data = str(loader.get_data_path()).encode()
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self.rate <= 0:
            raise ValueError(f"expected espeak-ng to start from {data!r}, got status {self.rate}")
        self._pieces: list[np.ndarray] = []
        self._callback = _CALLBACK(self._receive)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: Voice) -> np.ndarray:
        """Speak `text`: int16 [samples] at `self.rate` Hz."""
        name = f"{voice.accent}+{voice.variant}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ValueError(f"expected a voice that espeak-ng knows, got {name!r}")
        prosody = {_RATE: voice.rate, _PITCH: voice.pitch, _RANGE: voice.pitch_range}
        for parameter, value in prosody.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self._pieces = []
        status = self._library.espeak_Synth(
            data, ctypes.c_size_t(len(data) + 1), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != 0:
            raise ValueError(f"expected espeak-ng to speak {text!r}, got status {status}")
        self._library.espeak_Synchronize()
        return np.concatenate([np.zeros(0, np.int16), *self._pieces])

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        """Take a buffer of the library; 0 asks for more."""
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
