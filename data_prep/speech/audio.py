"""Audio as somebody recorded it: whatever libsndfile reads, block by block, to its end.

Nothing is believed of a header that the samples do not bear out. Errors name the file, and the
second in it.
"""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import soundfile

# Endings of files that are tried; what is in them is what counts.
ENDINGS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".gsm", ".voc", ".nist", ".sph"),
)
# How containers begin.
CONTAINERS = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"riff",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b"caff",
    b".snd",
)
RATES = (1_000, 384_000)  # Hz
_BLOCK = 1 << 16  # frames
_MOST_FRAMES = 1 << 40  # that a header may claim and mean it
# Chunks that may follow an empty one of samples.
_CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"smpl", b"JUNK", b"PEAK", b"iXML")
_FLOATS = ("FLOAT", "DOUBLE")
# Below this share of the channels' power in their mean they cancel each other: it would be silence.
_CANCELS = 0.01


class Audio:
    """An open file; use it in a `with`.

    Fields:
      rate: Hz.
      channels: as recorded.
      seconds: that its header promises; None where it does not say.
    """

    def __init__(self, source: Path | bytes) -> None:
        """Open a file, or the bytes of one, which has no name; ValueError for no audio."""
        self._said = "" if isinstance(source, bytes) else f"{source}: "
        self._raw = _open(source)
        try:
            self._file = soundfile.SoundFile(_Patient(_mended(self._raw)))
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            self._raw.close()
            raise ValueError(f"{self._said}expected audio, got {_reason(error)}") from None
        self.rate, self.channels = self._file.samplerate, self._file.channels
        if not RATES[0] <= self.rate <= RATES[1]:
            self.close()
            raise ValueError(
                f"{self._said}expected {RATES[0]:,} to {RATES[1]:,} Hz, got {self.rate:,}"
            )
        self._promised = self._file.frames
        self._seekable = self._file.seekable()
        known = 0 <= self._promised < _MOST_FRAMES and self._seekable
        self.seconds = self._promised / self.rate if known else None
        # soundfile seeks after each block to where it is, at which an MP3 loses bits of the next.
        self._file.seekable = lambda: False
        self._first: bool | None = None

    @property
    def is_plain(self) -> bool:
        """Whether samples are 16-bit integers of one channel."""
        return self.channels == 1 and self._file.subtype == "PCM_16"

    def check_numbers(self) -> None:
        """ValueError for a file with NaN or infinity, before anything is made of it."""
        if self._file.subtype not in _FLOATS or not self._seekable:
            return
        for _ in self.blocks():
            pass
        self._file.seek(0)
        self._first = None

    def blocks(self, size: int = _BLOCK) -> Iterator[np.ndarray]:
        """Mono float32 [n ≤ size] until the file ends: the mean of the channels.

        Of channels that cancel each other in the first block with sound, it is the first one.
        Raises ValueError where the file is damaged, or ends before its header says.
        """
        for block in self._read(size, "float32"):
            yield self._mono(block)

    def integers(self) -> np.ndarray:
        """int16 [n] of a plain file, bit for bit."""
        parts = [block[:, 0] for block in self._read(_BLOCK, "int16")]
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)

    def _read(self, size: int, dtype: str) -> Iterator[np.ndarray]:
        done = 0
        while True:
            try:
                block = self._file.read(size, dtype=dtype, always_2d=True)
            except (soundfile.SoundFileError, ValueError, MemoryError) as error:
                raise ValueError(
                    f"{self._said}damaged after {done / self.rate:.2f} s: {_reason(error)}"
                ) from None
            if not len(block):
                break
            if dtype == "float32" and not np.isfinite(block).all():
                at = done + int(np.flatnonzero(~np.isfinite(block).all(1))[0])
                raise ValueError(
                    f"{self._said}expected numbers, got NaN or infinity at {at / self.rate:.3f} s"
                )
            done += len(block)
            yield block
        # Other formats promise what they guess.
        if self._file.format == "FLAC" and done < self._promised < 1 << 62:
            raise ValueError(
                f"{self._said}damaged: it ends after {done / self.rate:.2f} s of "
                f"{self._promised / self.rate:.2f} s"
            )

    def _mono(self, block: np.ndarray) -> np.ndarray:
        if block.shape[1] == 1:
            return block[:, 0]
        mean = block.mean(1)
        if self._first is None and block.any():
            power = float(np.square(block, dtype=np.float64).mean())
            self._first = float(np.square(mean, dtype=np.float64).mean()) < _CANCELS * power
        return block[:, 0] if self._first else mean

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def is_container(data: bytes) -> bool:
    """Whether bytes begin as those of an audio file do, so that they are no samples."""
    return data.startswith(CONTAINERS)


def _open(source: Path | bytes) -> BinaryIO:
    """Bytes to read; ValueError for what is no regular file: a pipe would be waited for."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise ValueError(f"{source}: expected a file, got a folder, a pipe or a device")
    return open(source, "rb")


class _Patient:
    """A file for libsndfile, which damaged headers send anywhere.

    soundfile prints a traceback of what is raised here: a place that is none is not gone to, and
    what cannot be read is the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go there, or stay."""
        with contextlib.suppress(OSError, ValueError, OverflowError):
            return self._file.seek(offset, whence)
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        with contextlib.suppress(OSError):
            return self._file.read(size)
        return b""


def _mended(file: BinaryIO) -> BinaryIO:
    """The file, or a copy whose header says how many samples follow where it says none.

    Recorders that write to a pipe, or that were cut off, leave that field 0.
    """
    head = file.read(12)
    at = 12
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        while len(chunk := file.read(8)) == 8:
            size, at = int.from_bytes(chunk[4:], "little"), at + 8
            if chunk[:4] == b"data":
                rest = file.read() if size == 0 else b""
                if rest and not rest.startswith(_CHUNKS):
                    file.seek(0)
                    before = file.read(at - 4)
                    length = min(len(rest), 0xFFFFFFFE).to_bytes(4, "little")
                    return io.BytesIO(b"".join([before, length, rest]))
                break
            at += size + size % 2
            file.seek(at)
    file.seek(0)
    return file


def _reason(error: BaseException) -> str:
    """What libsndfile says, without the address of the file in memory that it says it of."""
    text = " ".join(str(error).split())
    return text.rpartition(": ")[2].rstrip(".") or type(error).__name__
