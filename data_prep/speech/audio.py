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
    b"#!AMR",
    b"wvpk",
    b"MAC ",
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"0&\xb2u",  # WMA
)
# So many bytes tell a container from samples.
HEAD = 4096
# Rates of layer III, kbit/s, by their number from 1.
_MPEG_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES = (1_000, 384_000)  # Hz
_BLOCK = 1 << 16  # frames
_MOST_FRAMES = 1 << 40  # that a header may claim and mean it
_MOST_CHUNKS = 1_000  # that are looked through
# Chunks that may follow an empty one of samples.
_CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"smpl", b"JUNK", b"PEAK", b"iXML")
_FLOATS = ("FLOAT", "DOUBLE")
# Floats stay within ±1, give or take a gain; what is beyond this is of one of these scales.
_MOST_FLOAT = 256.0
_INTEGERS = (2.0**15, 2.0**23, 2.0**31)
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
            self._file = _decoder(self._raw)
        except (soundfile.SoundFileError, TypeError, ValueError, OSError) as error:
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
        self._full_scale: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether samples are 16-bit integers of one channel."""
        return self.channels == 1 and self._file.subtype == "PCM_16"

    def check_numbers(self) -> None:
        """ValueError for a file with NaN or infinity, before anything is made of it."""
        self._full_scale = 1.0
        if self._file.subtype not in _FLOATS or not self._seekable:
            return
        peaks = [float(np.abs(block).max()) for block in self._read(_BLOCK, "float32")]
        self._file.seek(0)
        peak = max(peaks, default=0.0)
        if peak > _MOST_FLOAT:
            self._full_scale = next((full for full in _INTEGERS if peak <= full), peak)

    def blocks(self, size: int = _BLOCK) -> Iterator[np.ndarray]:
        """Mono float32 [n ≤ size] until the file ends: the mean of the channels.

        Of channels that cancel each other in the first block with sound, it is the first one.
        Integers that were written as floats, as they were, are taken for those. Raises ValueError
        where the file is damaged, or ends before its header says.
        """
        if self._full_scale is None:
            self.check_numbers()
        for block in self._read(size, "float32"):
            yield self._mono(block if self._full_scale == 1.0 else block / self._full_scale)

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
    """Whether bytes begin as those of an audio file do, so that they are no samples.

    `data`: the first `HEAD` of them, or all.
    """
    is_mp4 = data[4:8] == b"ftyp"
    return data.startswith(CONTAINERS) or is_mp4 or _is_mpeg(data)


def _is_mpeg(data: bytes) -> bool:
    """Whether two frames of MP3 or of AAC follow each other: one may be a sample that looks so."""
    size = _mpeg_frame(data[:6])
    return size > 0 and _mpeg_frame(data[size : size + 6]) > 0


def _mpeg_frame(head: bytes) -> int:
    """Bytes of the frame of MPEG audio that begins with `head`, 0 for none."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    if head[1] & 0xF6 == 0xF0:  # AAC in ADTS: its length is written out
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    rate, index = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer != 1 or rate == 3 or not 0 < index < 15:  # layer III alone
        return 0
    kbits = (_MPEG_1 if version == 3 else _MPEG_2)[index - 1]
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (144 if version == 3 else 72) * 1000 * kbits // hertz + (head[2] >> 1 & 1)


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


def _decoder(file: BinaryIO) -> soundfile.SoundFile:
    """The file as libsndfile reads it; where it stops at a chunk of a WAV, without such chunks."""
    whole = _mended(file)
    try:
        return soundfile.SoundFile(_Patient(whole))
    except soundfile.SoundFileError:
        bare = _bare(whole)
        if bare is None:
            raise
        return soundfile.SoundFile(_Patient(bare))


def _mended(file: BinaryIO) -> BinaryIO:
    """The file, or a copy whose header says how many samples follow where it says none.

    Recorders that write to a pipe, or that were cut off, leave that field 0.
    """
    for name, at, size in _chunks(file):
        if name == b"data":
            rest = file.read() if size == 0 else b""
            if rest and not rest.startswith(_CHUNKS):
                file.seek(0)
                before = file.read(at - 4)
                length = min(len(rest), 0xFFFFFFFE).to_bytes(4, "little")
                return io.BytesIO(b"".join([before, length, rest]))
            break
    file.seek(0)
    return file


def _bare(file: BinaryIO) -> BinaryIO | None:
    """A WAV of the format and the samples alone; None where there are none.

    Notes, dates and pictures between the two are often of another length than they say.
    """
    form = b""
    for name, _, size in _chunks(file):
        if name == b"fmt ":
            form = file.read(size)
        elif name == b"data" and form:
            data = file.read(size)
            sized = (len(part).to_bytes(4, "little") + part for part in (form, data))
            chunks = b"".join(map(bytes.__add__, (b"fmt ", b"data"), sized))
            return io.BytesIO(b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks)
    return None


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and claimed size of each chunk of a WAV; the file stands at its content."""
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    at = len(head)
    for _ in range(_MOST_CHUNKS):
        if len(chunk := file.read(8)) < 8:
            return
        size, at = int.from_bytes(chunk[4:], "little"), at + 8
        yield chunk[:4], at, size
        at += size
        file.seek(at)
        # What is odd is followed by a 0, which some writers do not know; names begin otherwise.
        at += size % 2 and file.read(1) == b"\0"
        file.seek(at)


def _reason(error: BaseException) -> str:
    """What libsndfile says, without the address of the file in memory that it says it of."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text.rpartition(": ")[2].rstrip(".") or type(error).__name__
