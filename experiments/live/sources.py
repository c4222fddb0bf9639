"""Where live audio comes from: a file, a pipe, a microphone. All give mono float32 at one rate."""

from __future__ import annotations

import queue
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soxr

from data_prep.speech.audio import HEAD, Audio, is_container

BLOCK_SECONDS = 0.2
# A queue that is full means that the machine does not keep up: what comes then is dropped.
QUEUE_SECONDS = 10.0
UNPLUGGED_SECONDS = 3.0
# A file of so many seconds is a word that was cut out: it is heard with silence around it.
CLIP_SECONDS = (0.1, 2.0)
SILENCE_SECONDS = 1.0


class Source(ABC):
    """Chunks of audio, as they come.

    Fields:
      seconds: the length of what there is, None if nobody knows.
      dropped_seconds: of audio that was lost so far.
      ended: why a live source ended by itself, "" if nothing is to be said.
      silence: seconds without a sample, put before and after what there is.
    """

    seconds: float | None = None
    dropped_seconds: float = 0.0
    ended: str = ""
    silence: float = 0.0

    @abstractmethod
    def chunks(self) -> Iterator[np.ndarray]:
        """Mono float32 [n], of any lengths."""


class Wav(Source):
    """An audio file of any rate and number of channels, block by block."""

    def __init__(self, path: Path, rate: int, *, paced: bool = False) -> None:
        """Open it; ValueError for what is no audio. `paced`: as fast as it was spoken."""
        if not path.is_file():
            raise ValueError(f"--wav: expected a file, got {path}")
        self.audio = Audio(path)
        self.audio.check_numbers()
        self.seconds = self.audio.seconds
        shortest, longest = CLIP_SECONDS
        if self.seconds is not None and shortest <= self.seconds < longest:
            self.silence = SILENCE_SECONDS
        self._around = np.zeros(round(self.silence * rate), np.float32)
        self._resampler = Resampler(self.audio.rate, rate)
        self._paced = paced

    def chunks(self) -> Iterator[np.ndarray]:
        """Blocks of a fifth of a second; silence around a clip."""
        yield self._around
        begin, heard = time.monotonic(), 0
        with self.audio as file:
            for block in file.blocks(max(1, round(BLOCK_SECONDS * file.rate))):
                heard += len(block)
                if self._paced:
                    late = time.monotonic() - begin - heard / file.rate
                    time.sleep(max(0.0, -late))
                yield self._resampler(block, False)
        yield self._resampler(np.zeros(0, np.float32), True)
        yield self._around


class Pipe(Source):
    """Raw PCM on standard input: signed 16 bit, little endian, mono."""

    def __init__(self, stream: BinaryIO, given: int, rate: int) -> None:
        """`given`: its rate in Hz."""
        self._stream, self._size = stream, 2 * max(1, round(BLOCK_SECONDS * given))
        self._resampler = Resampler(given, rate)

    def chunks(self) -> Iterator[np.ndarray]:
        """What has arrived, until the pipe ends; half a sample at its end is dropped.

        ValueError for a file with a header, whose bytes would be taken for samples.
        """
        rest, is_told = b"", False
        read = getattr(self._stream, "read1", self._stream.read)
        while data := read(self._size):
            data = rest + data
            if not is_told and len(data) < HEAD:
                rest = data
                continue
            if not is_told:
                _check_raw(data)
            is_told = True
            whole = len(data) // 2 * 2
            data, rest = data[:whole], data[whole:]
            yield self._resampler(_floats(data), False)
        if not is_told:  # it ended before
            _check_raw(rest)
            yield self._resampler(_floats(rest[: len(rest) // 2 * 2]), False)
        yield self._resampler(np.zeros(0, np.float32), True)


def _check_raw(data: bytes) -> None:
    """ValueError for bytes that begin as a file does."""
    if is_container(data):
        name = data[:4].decode("ascii", "ignore").strip("\0 ") or "of MPEG"
        raise ValueError(
            f"--stdin: expected raw 16-bit samples, got a file with a header ({name}): --wav reads "
            "those, and --rate says at how many Hz raw samples are"
        )


def _floats(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


class Microphone(Source):
    """A sound device, by sounddevice (the extra `live`)."""

    def __init__(self, device: str | None, rate: int) -> None:
        """Open it; ValueError where there is none, or sounddevice is not installed."""
        try:
            import sounddevice
        except (ImportError, OSError) as error:  # OSError: no PortAudio on this machine
            raise ValueError(
                "--mic: expected sounddevice and PortAudio (pip install 'sanas-jax[live]'): "
                f"{error}"
            ) from error
        self._queue: queue.Queue[np.ndarray] = queue.Queue(int(QUEUE_SECONDS / BLOCK_SECONDS))
        name: str | int | None = int(device) if device and device.isdigit() else device
        try:
            own = round(float(sounddevice.query_devices(name, "input")["default_samplerate"]))
            self._size = max(1, round(BLOCK_SECONDS * own))
            self._stream: Any = sounddevice.InputStream(
                samplerate=own,
                blocksize=self._size,
                device=name,
                channels=1,
                dtype="float32",
                callback=self._take,
            )
        except (ValueError, sounddevice.PortAudioError) as error:
            raise ValueError(f"--mic: expected a microphone, got {error}") from error
        self._rate, self._resampler = own, Resampler(own, rate)

    def _take(self, block: np.ndarray, frames: int, when: Any, status: Any) -> None:
        """Called by PortAudio's thread: never waits."""
        del when
        if status.input_overflow:  # how much was lost is not told: at least a block
            self.dropped_seconds += frames / self._rate
        try:
            self._queue.put_nowait(block[:, 0].copy())
        except queue.Full:
            self.dropped_seconds += frames / self._rate

    def chunks(self) -> Iterator[np.ndarray]:
        """Until the device falls silent for good, as one that was unplugged does."""
        with self._stream:
            while True:
                try:
                    yield self._resampler(self._queue.get(timeout=UNPLUGGED_SECONDS), False)
                except queue.Empty:
                    self.ended = f"no audio from the device for {UNPLUGGED_SECONDS:.0f} s"
                    return


class Resampler:
    """`(samples, is_last) -> samples` at another rate, without seams; bit for bit at the same."""

    def __init__(self, given: int, rate: int) -> None:
        self._stream = None if given == rate else soxr.ResampleStream(given, rate, 1, "float32")

    def __call__(self, samples: np.ndarray, is_last: bool) -> np.ndarray:
        """float32 [n] → [m]; what the filter holds back comes with the last."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=is_last))


def standard_input() -> BinaryIO:
    """The pipe; ValueError for a terminal, where nothing would ever come."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("--stdin: expected raw PCM in a pipe, got a terminal, or none at all")
    return sys.stdin.buffer
