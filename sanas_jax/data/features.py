"""Features of audio, as librosa computes them with centred frames, in jnp.

The mel matrix is an argument (it is made once, when the data is prepared), so nothing here needs an
audio library. MFCC are those of the SANAS code: power spectrum of Hann-windowed frames, mel bands,
natural log where the power is positive, orthonormal DCT-II over the bands. Log-mel bands, which the
networks of today take, leave the DCT out and add a floor to the power.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import gcd
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

PADDINGS = ("constant", "reflect")
# Power of a band below which log-mel features are flat: about that of 16-bit rounding.
POWER_FLOOR = 1e-6
# Of one signal, up to which an FFT is taken on a CPU.
FFT_FRAMES = 128
Count = TypeVar("Count", int, jax.Array)
Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Frontend:
    """What turns samples into features; make one with `Frontend.create`.

    mel: [num_mels, n_fft // 2 + 1] weights of the mel bands on the power spectrum
    mean, std: [num_coefficients] normalisation of the coefficients
    n_fft, hop: samples per frame and between frames
    sample_rate: Hz
    padding: what stands before the first and after the last sample, "constant" (zeros, librosa
        from 0.10) or "reflect" (librosa before 0.10)
    num_bins: bins of the spectrum that `mel` uses; the ones above are not computed
    cepstral: MFCC; otherwise the log-mel bands themselves
    raw: the features are the samples in rows of `hop`; a network makes bands of them (`LogMel`)
    """

    mel: Array
    mean: Array
    std: Array
    n_fft: int = field(default=480, metadata={"static": True})
    hop: int = field(default=160, metadata={"static": True})
    sample_rate: int = field(default=16000, metadata={"static": True})
    padding: str = field(default="constant", metadata={"static": True})
    num_bins: int = field(default=241, metadata={"static": True})
    cepstral: bool = field(default=True, metadata={"static": True})
    raw: bool = field(default=False, metadata={"static": True})

    @classmethod
    def create(
        cls,
        mel: ArrayLike,
        *,
        num_coefficients: int | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        n_fft: int = 480,
        hop: int = 160,
        sample_rate: int = 16000,
        padding: str = "constant",
        cepstral: bool = True,
        raw: bool = False,
    ) -> Frontend:
        """Check the settings and fill in the rest: as many coefficients as bands, mean 0, std 1."""
        weights = np.asarray(mel, np.float32)
        if n_fft < 2 or n_fft % 2:
            raise ValueError(f"n_fft: expected an even number of samples, got {n_fft}")
        if not 1 <= hop <= n_fft:
            raise ValueError(f"hop: expected 1 to n_fft = {n_fft} samples, got {hop}")
        if raw and n_fft % hop:
            raise ValueError(f"n_fft: expected a multiple of hop = {hop} for rows, got {n_fft}")
        if sample_rate <= 0:
            raise ValueError(f"sample_rate: expected a positive number of Hz, got {sample_rate}")
        if padding not in PADDINGS:
            raise ValueError(f"padding: expected one of {PADDINGS}, got {padding!r}")
        if weights.ndim != 2 or weights.shape[1] != n_fft // 2 + 1:
            raise ValueError(f"mel: expected [num_mels, {n_fft // 2 + 1}], got {weights.shape}")
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError("mel: expected weights >= 0, not all of them 0")
        if num_coefficients is None:
            num_coefficients = weights.shape[0] if mean is None else np.size(mean)
        if not 1 <= num_coefficients <= weights.shape[0]:
            raise ValueError(
                f"num_coefficients: expected 1 to {weights.shape[0]} (one per band at most), "
                f"got {num_coefficients}"
            )
        if not cepstral and num_coefficients != weights.shape[0]:
            raise ValueError(
                f"num_coefficients: expected all {weights.shape[0]} bands of log-mel features, "
                f"got {num_coefficients}"
            )
        centre = np.zeros(num_coefficients) if mean is None else np.asarray(mean)
        spread = np.ones(num_coefficients) if std is None else np.asarray(std)
        for name, value in (("mean", centre), ("std", spread)):
            if value.shape != (num_coefficients,):
                raise ValueError(f"{name}: expected [{num_coefficients}], got {value.shape}")
        if not (spread > 0).all():
            raise ValueError(f"std: expected positive numbers, got {spread.min()}")
        return cls(
            mel=jax.device_put(weights),
            mean=jax.device_put(np.asarray(centre, np.float32)),
            std=jax.device_put(np.asarray(spread, np.float32)),
            n_fft=n_fft,
            hop=hop,
            sample_rate=sample_rate,
            padding=padding,
            num_bins=int(np.flatnonzero(weights.any(0))[-1]) + 1,
            cepstral=cepstral,
            raw=raw,
        )

    @property
    def overlap(self) -> int:
        """Rows of features of a signal beyond its frames: raw ones cover the last whole frame."""
        return self.n_fft // self.hop - 1 if self.raw else 0

    def span(self, rows: int) -> int:
        """Samples that so many features in a row cover: frames, the whole of each, or raw rows."""
        if self.raw:
            return rows * self.hop
        return (rows - 1) * self.hop + self.n_fft if rows else 0


def num_frames(samples: Count, hop: int = 160) -> Count:
    """Frames of a signal of `samples` samples: one is centred on every `hop`-th sample."""
    return 1 + samples // hop


def mel_power(frontend: Frontend, signal: jax.Array, *, centred: bool = True) -> jax.Array:
    """Power in each mel band: signal [..., samples] float32 to [..., frames, num_mels].

    `centred`: the first frame is centred on the first sample, with padding before it; otherwise it
    begins there, and all frames lie in the signal.
    """
    bins = frontend.num_bins
    _check_signal(frontend, signal, centred)
    signal, frames = _in_frames(frontend, signal, centred)
    padded = signal.reshape(-1, signal.shape[-1])
    by_convolution = partial(_power_by_convolution, frontend)
    if by_fft(frames, len(padded)):
        by_transform = partial(_power_by_fft, frontend)
        power = jax.lax.platform_dependent(padded, cpu=by_transform, default=by_convolution)
    else:
        power = by_convolution(padded)
    bands = jnp.matmul(power, frontend.mel[:, :bins].T, precision=jax.lax.Precision.HIGHEST)
    return bands.reshape(*signal.shape[:-1], frames, -1)


def _in_frames(frontend: Frontend, signal: jax.Array, centred: bool) -> tuple[jax.Array, int]:
    """The samples of a signal's frames, padded if they are centred, and how many frames."""
    n_fft, hop = frontend.n_fft, frontend.hop
    if centred:
        frames = num_frames(signal.shape[-1], hop)
        mode = "reflect" if frontend.padding == "reflect" else "constant"
        around = [(0, 0)] * (signal.ndim - 1) + [(n_fft // 2, n_fft // 2)]
        signal = jnp.pad(signal, around, mode=mode)
    else:
        frames = 1 + (signal.shape[-1] - n_fft) // hop
    return signal[..., : (frames - 1) * hop + n_fft], frames


def by_fft(frames: int, signals: int = 1) -> bool:
    """Whether a spectrum is that of an FFT on a CPU: of one signal, and few frames.

    A step's few frames take it less time than the convolution; a batch of signals takes it more
    (`benchmarks.features`), and many frames more memory.
    """
    return signals == 1 and frames <= FFT_FRAMES


def _power_by_convolution(frontend: Frontend, signals: jax.Array) -> jax.Array:
    """Power [B, frames, bins] of signals [B, samples]: the windowed DFT as a convolution.

    Over blocks of samples, so that no matrix of overlapping frames is formed. 64 signals of 3 s on
    2 CPU cores: 14 ms, against 34 ms with jnp.fft.rfft (2.5x) and 37 ms with framing and a matmul
    (2.6x).
    """
    n_fft, hop, bins = frontend.n_fft, frontend.hop, frontend.num_bins
    block = gcd(n_fft, hop)
    kernel = jnp.asarray(_windowed_dft(n_fft, bins).reshape(n_fft // block, block, 2 * bins))
    spectrum = jax.lax.conv_general_dilated(
        signals.reshape(-1, signals.shape[-1] // block, block),
        kernel,
        window_strides=(hop // block,),
        padding="VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=jax.lax.Precision.HIGHEST,  # accelerators would round the products to 8-11 bits
    )
    return spectrum[..., :bins] ** 2 + spectrum[..., bins:] ** 2


def _power_by_fft(frontend: Frontend, signals: jax.Array) -> jax.Array:
    """As `_power_by_convolution`, from a matrix of windowed frames."""
    n_fft, hop, bins = frontend.n_fft, frontend.hop, frontend.num_bins
    block = gcd(n_fft, hop)
    blocks, stride = signals.reshape(len(signals), -1, block), hop // block
    window = np.float32(hann(n_fft)).reshape(-1, block)
    rows = blocks.shape[1] - len(window) + 1  # slices, which take less time than a gather
    parts = [blocks[:, i : i + rows : stride] * part for i, part in enumerate(window)]
    spectrum = jnp.fft.rfft(jnp.concatenate(parts, -1))[..., :bins]
    return spectrum.real**2 + spectrum.imag**2


def extract(frontend: Frontend, signal: jax.Array, *, centred: bool = True) -> jax.Array:
    """Normalised features: signal [..., samples] float32 to [..., frames, num_coefficients].

    `centred`: as in `mel_power`.

    MFCC: where the power of a band is 0 its log is taken as 0 (as in the SANAS code), so that
    digital silence has all-zero coefficients before normalisation. Log-mel: `POWER_FLOOR` is added.

    Raw: the samples [..., rows, hop], of which `overlap` + 1 rows make a frame.

    Accuracy. float32 carries the amplitude of a bin to about 1e-7 of the amplitude of the whole
    frame, so a band that holds less than 1e-10 of the frame's power has a log made of rounding
    errors: it happens in synthetic tones, and not in speech or noise.
    """
    if frontend.raw:
        return _rows(frontend, signal, centred)
    power = mel_power(frontend, signal, centred=centred)
    if not frontend.cepstral:
        return (jnp.log(power + POWER_FLOOR) - frontend.mean) / frontend.std
    positive = power > 0
    # The inner `where` keeps the gradient finite where the power is 0.
    log_power = jnp.where(positive, jnp.log(jnp.where(positive, power, 1.0)), 0.0)
    basis = jnp.asarray(dct(frontend.mel.shape[0], frontend.mean.shape[0]))
    coefficients = jnp.matmul(log_power, basis, precision=jax.lax.Precision.HIGHEST)
    return (coefficients - frontend.mean) / frontend.std


def _rows(frontend: Frontend, signal: jax.Array, centred: bool) -> jax.Array:
    """The samples of a signal's frames in rows [..., rows, hop]."""
    _check_signal(frontend, signal, centred)
    if centred:
        signal, _ = _in_frames(frontend, signal, centred)
    rows = signal.shape[-1] // frontend.hop
    whole = signal[..., : rows * frontend.hop]
    return whole.reshape(*signal.shape[:-1], rows, frontend.hop)


def fit_normaliser(features: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each coefficient over the frames where `mask` is true.

    features [..., F] and mask [...] give two arrays [F]. A coefficient that never changes gets
    std 1, and so does every coefficient where no frame is counted (their mean is 0).
    """
    if features.ndim < 2 or mask.shape != features.shape[:-1]:
        raise ValueError(
            f"mask: expected the shape of features without its last axis, "
            f"got {mask.shape} for {features.shape}"
        )
    rows = features.reshape(-1, features.shape[-1])
    weight = jnp.asarray(mask, features.dtype).reshape(-1, 1)
    count = jnp.maximum(weight.sum(), 1.0)
    # Frames left out may hold anything, nan included: `where`, not a product.
    mean = jnp.where(weight > 0, rows, 0.0).sum(0) / count
    variance = jnp.where(weight > 0, (rows - mean) ** 2, 0.0).sum(0) / count
    return mean, jnp.where(variance > 0, jnp.sqrt(variance), 1.0)


def _check_signal(frontend: Frontend, signal: jax.Array, centred: bool) -> None:
    """ValueError unless the signal is float32 with enough samples."""
    if not hasattr(signal, "dtype") or signal.dtype != jnp.float32:
        raise ValueError(f"signal: expected float32, got {getattr(signal, 'dtype', type(signal))}")
    # A reflection takes the half frame that follows the first sample.
    least = frontend.n_fft // 2 + 1 if frontend.padding == "reflect" else 1
    least = least if centred else frontend.span(1)
    if signal.ndim < 1 or signal.shape[-1] < least:
        raise ValueError(f"signal: expected [..., samples >= {least}], got {signal.shape}")


def _windowed_dft(n_fft: int, bins: int) -> np.ndarray:
    """[n_fft, 2 * bins]: periodic Hann window times cosines, then sines, of the first bins."""
    time, frequency = np.arange(n_fft)[:, None], np.arange(bins)
    window = hann(n_fft)[:, None]
    # The remainder keeps the angle small, hence exact to the last bit of a float64.
    angle = 2 * np.pi * (time * frequency % n_fft) / n_fft
    return np.concatenate([window * np.cos(angle), window * np.sin(angle)], 1).astype(np.float32)


def hann(n_fft: int) -> np.ndarray:
    """[n_fft]: the periodic window."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft))


def dct(bands: int, coefficients: int) -> np.ndarray:
    """[bands, coefficients]: orthonormal DCT-II."""
    position, order = np.arange(bands)[:, None] + 0.5, np.arange(coefficients)
    basis = np.sqrt(2 / bands) * np.cos(np.pi * position * order / bands)
    basis[:, 0] /= np.sqrt(2)
    return basis.astype(np.float32)
