"""MFCC of 64 signals of 3 s beside librosa's, and beside other ways to write them in jnp.

    python -m experiments.benchmarks.features [--repeats 20] [--json out.json]

librosa works on the host: melspectrogram, logarithm, DCT, in one call for all signals and, in one
thread, signal by signal, as data sets are read. Its first call compiles for many seconds and is not
timed. "rfft" and "frames, matmul" are ours with another spectrum: `jnp.fft.rfft` of windowed
frames, and those frames times a DFT matrix, where ours is a convolution. All are held to give the
same coefficients on noise. With --nolibrosa ours are held to each other, on bands of noise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from data_prep.command import cli as command
from data_prep.speech import cache
from experiments.benchmarks.harness import entry
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side, hold, measure, relative_error
from experiments.benchmarks.harness.programs import build, num_bytes
from experiments.benchmarks.harness.records import Result, result, table
from sanas_jax import costs
from sanas_jax.data.features import Frontend, extract

__all__ = ["benchmark", "main", "table"]

NAME = "features"
SIGNALS, QUICK_SIGNALS, SAMPLES, RATE = 64, 4, 48_000, 16_000
TOLERANCE = 1e-4
REPEATS = 20
HIGHEST = jax.lax.Precision.HIGHEST


def benchmark(settings: Settings, librosa: bool = True) -> Result:
    """Verify and time; beside `librosa` unless told otherwise."""
    count = QUICK_SIGNALS if settings.quick else SIGNALS
    signals = np.random.default_rng(0).uniform(-1, 1, (count, SAMPLES)).astype(np.float32)
    frontend = Frontend.create(_mel(librosa), padding="constant")
    batch = jnp.asarray(signals)
    forms = {
        "ours": lambda x: extract(frontend, x),
        "rfft": lambda x: _cepstrum(frontend, _power_by_rfft(_frames(frontend, x))),
        "frames, matmul": lambda x: _cepstrum(frontend, _power_by_matmul(_frames(frontend, x))),
    }
    sides, values = {}, {}
    for name, form in forms.items():
        program = build(jax.jit(form), batch)
        values[name] = np.asarray(program.run(batch))
        side = Side(
            program.on(batch),
            macs=costs.count_macs(form, batch),
            moved=num_bytes((batch, values[name])),
        )
        sides[name] = side.compiled(program)
    expected = values["ours"]
    if librosa:
        expected = by_librosa(frontend, signals)
        sides |= _their_sides(frontend, signals, settings.threads, num_bytes((batch, expected)))
    agreement = {name: relative_error(found, expected) for name, found in values.items()}
    hold(agreement, TOLERANCE, "the features differ")
    return result(
        f"features: MFCC of {count} signals of {SAMPLES / RATE:g} s, {settings.threads} threads, "
        f"median of {settings.repeats} in turn",
        settings.asked | {"signals": count, "samples": SAMPLES},
        measure(sides, settings.repeats),
        agreement=agreement,
        notes=[] if librosa else ["librosa, by --nolibrosa"],
    )


def _mel(librosa: bool) -> np.ndarray:
    """Bands of librosa's, or any: how long products take does not depend on them."""
    if not librosa:
        return np.random.default_rng(1).random(cache.MEL_SHAPE, np.float32)
    from data_prep.speech.decode import mel_matrix

    return mel_matrix()


def _their_sides(
    frontend: Frontend, signals: np.ndarray, threads: int, moved: int
) -> dict[str, Side]:
    """librosa in one call, and signal by signal."""
    from threadpoolctl import threadpool_limits

    def at_once() -> None:
        with threadpool_limits(threads):
            by_librosa(frontend, signals)

    def one_by_one() -> None:
        # Products as small as a signal's: threads wait for each other longer than they compute.
        with threadpool_limits(1):
            for signal in signals:
                by_librosa(frontend, signal)

    runs: dict[str, Callable[[], None]] = {"librosa": at_once, "librosa, one by one": one_by_one}
    return {name: Side(run, moved=moved) for name, run in runs.items()}


def by_librosa(frontend: Frontend, signals: np.ndarray) -> np.ndarray:
    """MFCC [..., frames, 40] of signals [..., samples], as the SANAS code calls librosa."""
    import librosa  # a machine that only computes features need not have it

    power = librosa.feature.melspectrogram(
        y=signals,
        sr=frontend.sample_rate,
        n_fft=frontend.n_fft,
        hop_length=frontend.hop,
        pad_mode="constant",
        n_mels=frontend.mel.shape[0],
        fmin=cache.FRONTEND["fmin"],
        fmax=cache.FRONTEND["fmax"],
    )
    power[power > 0] = np.log(power[power > 0])
    return librosa.feature.mfcc(S=power, n_mfcc=power.shape[-2]).swapaxes(-1, -2)


def _frames(frontend: Frontend, signal: jax.Array) -> jax.Array:
    """Windowed frames [signals, frames, n_fft]."""
    half = frontend.n_fft // 2
    padded = jnp.pad(signal, ((0, 0), (half, half)))
    starts = np.arange(0, signal.shape[1] + 1, frontend.hop)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frontend.n_fft) / frontend.n_fft)
    return padded[:, starts + np.arange(frontend.n_fft)] * jnp.asarray(window, jnp.float32)


def _power_by_rfft(frames: jax.Array) -> jax.Array:
    """Power of all bins."""
    spectrum = jnp.fft.rfft(frames)
    return spectrum.real**2 + spectrum.imag**2


def _power_by_matmul(frames: jax.Array) -> jax.Array:
    """Power of all bins, by a matrix of cosines and sines."""
    size = frames.shape[-1]
    angle = 2 * np.pi * (np.arange(size)[:, None] * np.arange(size // 2 + 1) % size) / size
    dft = jnp.asarray(np.concatenate([np.cos(angle), np.sin(angle)], 1), jnp.float32)
    real, imaginary = jnp.split(jnp.matmul(frames, dft, precision=HIGHEST), 2, axis=-1)
    return real**2 + imaginary**2


def _cepstrum(frontend: Frontend, power: jax.Array) -> jax.Array:
    """MFCC of a spectrum's power [..., bins] that is nowhere 0."""
    bands = jnp.matmul(power, frontend.mel.T, precision=HIGHEST)
    position, order = np.arange(bands.shape[-1])[:, None] + 0.5, np.arange(bands.shape[-1])
    basis = np.sqrt(2 / len(order)) * np.cos(np.pi * position * order / len(order))
    basis[:, 0] /= np.sqrt(2)
    return jnp.matmul(jnp.log(bands), jnp.asarray(basis, jnp.float32), precision=HIGHEST)


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    entry.define_flags(values, repeats=REPEATS)
    flags.DEFINE_bool("librosa", True, "Beside librosa.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    settings = entry.settings_of(values, REPEATS)
    entry.run_one(NAME, values, settings, lambda: benchmark(settings, values.librosa))


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
