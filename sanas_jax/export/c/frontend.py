"""Features in C, by a real FFT: `data.features.extract` on frames that lie in the signal.

A few frames are transformed side by side, LANES of them: every loop over them is one vector. Frames
overlap, so the signal is laid out that way once, hop by hop. Each part is a function of its own,
since gcc believes `restrict` only of arguments.
"""

from __future__ import annotations

import numpy as np

from sanas_jax.data.features import POWER_FLOOR, Frontend, dct
from sanas_jax.export.c.fft import write_transform
from sanas_jax.export.c.text import Source, constant

LANES = 8


def write_features(source: Source, frontend: Frontend) -> None:
    """Write `features(samples, count, frames)`: log-mel bands, or MFCC."""
    n = frontend.n_fft
    mel = np.asarray(frontend.mel)[:, : frontend.num_bins]
    time = np.arange(n)
    source.add(
        f"#ifndef LANES\n#define LANES {LANES} /* frames that are transformed together */\n#endif"
    )
    # Halved, as the transform wants it.
    source.add(constant("half_hann", (0.5 - 0.5 * np.cos(2 * np.pi * time / n)) / 2))
    _write_mel(source, mel)
    source.add(constant("feature_mean", np.asarray(frontend.mean)))
    source.add(constant("feature_scale", 1 / np.asarray(frontend.std, np.float64)))
    bands, outputs = mel.shape[0], frontend.mean.shape[0]
    if frontend.cepstral:
        source.add(constant("cosines", dct(bands, outputs).T))
    source.add(_frames(n, frontend.hop))
    passes = write_transform(source, n)
    source.add(_LOG)
    source.add(_levels(frontend))
    source.add(_normalised(frontend))
    source.add(_features(frontend, passes))


def _write_mel(source: Source, mel: np.ndarray) -> None:
    """The mel matrix, of which a band uses few bins."""
    spans = [np.flatnonzero(row) for row in mel]
    first = [int(span[0]) if span.size else 0 for span in spans]
    end = [int(span[-1]) + 1 if span.size else 0 for span in spans]
    source.add(constant("mel_first", first, "short"))
    source.add(constant("mel_end", end, "short"))
    weights = [row[a:b] for row, a, b in zip(mel, first, end, strict=True)]
    source.add(constant("mel_weight", np.concatenate(weights)))


def _frames(n: int, hop: int) -> str:
    """A column is a hop of the signal; a frame is a column and those after it."""
    more = -(-n // hop) - 1
    rest = n - more * hop  # rows of a frame's last column
    short = f"""    column[last] = column[0]; /* no frame has its other rows */
    for (int r = {rest}; r < {hop}; ++r)
        for (int c = 0; c < COLUMNS; ++c) turned[r * COLUMNS + c] = column[c][r];
"""
    return f"""
#define COLUMNS (LANES + {more}) /* of {hop} samples: those of so many frames */

/* turned[r, c] = samples[{hop} c + r], of so many frames, LANES at most. */
static void turn(const float *samples, int frames, float *restrict turned)
{{
    const float *column[COLUMNS];
    const int last = frames - 1 + {more};
    for (int c = 0; c < COLUMNS; ++c) column[c] = samples + (c > last ? 0 : c) * {hop};
    for (int r = 0; r < {rest}; ++r)
        for (int c = 0; c < COLUMNS; ++c) turned[r * COLUMNS + c] = column[c][r];
{short if rest < hop else ""}}}

/* Under the window, even samples before odd ones; x is turned, or the signal of one frame. */
static void windowed(const float *restrict x, float *restrict z)
{{
    for (int odd = 0; odd < 2; ++odd) {{
        for (int i = odd, r = odd, c = 0; i < {n}; i += 2, r += 2, z += LANES) {{
            for (; r >= {hop}; r -= {hop}) ++c;
            const float *from = x + (LANES > 1 ? r * COLUMNS + c : i);
            for (int l = 0; l < LANES; ++l) z[l] = from[l] * half_hann[i];
        }}
    }}
}}"""


# Cephes' logf (Moshier), for many numbers at once; libm's takes one.
_LOG = """
/* Natural logs of positive normal numbers, in place. */
static void logs(float *restrict x, int count)
{
    for (int i = 0; i < count; ++i) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        const int32_t exponent = (bits - 0x3f3504f3) >> 23; /* of sqrt(1/2) to sqrt(2) */
        const float e = (float)exponent;
        bits -= (int32_t)((uint32_t)exponent << 23);
        float m;
        memcpy(&m, &bits, sizeof m);
        m -= 1.0f;
        float p = 7.0376836292e-2f;
        p = p * m - 1.1514610310e-1f;
        p = p * m + 1.1676998740e-1f;
        p = p * m - 1.2420140846e-1f;
        p = p * m + 1.4249322787e-1f;
        p = p * m - 1.6668057665e-1f;
        p = p * m + 2.0000714765e-1f;
        p = p * m - 2.4999993993e-1f;
        p = p * m + 3.3333331174e-1f;
        const float rest = m * m * m * p - 2.12194440e-4f * e - 0.5f * m * m;
        x[i] = m + rest + 0.693359375f * e;
    }
}"""


def _levels(frontend: Frontend) -> str:
    # Digital silence has coefficients of 0 (`data.features.extract`).
    floored = "sum[l] > 0 ? sum[l] : 1" if frontend.cepstral else f"sum[l] + {POWER_FLOOR:.9g}f"
    bands = frontend.mel.shape[0]
    return f"""
/* Log-mel bands. */
static void levels(const float *restrict power, float *restrict level)
{{
    const float *w = mel_weight;
    for (int band = 0; band < {bands}; ++band) {{
        float sum[LANES];
        for (int l = 0; l < LANES; ++l) sum[l] = 0;
        for (int k = mel_first[band]; k < mel_end[band]; ++k, ++w)
            for (int l = 0; l < LANES; ++l) sum[l] += *w * power[k * LANES + l];
        for (int l = 0; l < LANES; ++l) level[band * LANES + l] = {floored};
    }}
    logs(level, {bands} * LANES);
}}"""


def _normalised(frontend: Frontend) -> str:
    bands, outputs = frontend.mel.shape[0], frontend.mean.shape[0]
    value, transform = "level[out * LANES + l]", ""
    if frontend.cepstral:
        value, transform = (
            "sum",
            f"""
            float sum = 0;
            for (int band = 0; band < {bands}; ++band)
                sum += cosines[out * {bands} + band] * level[band * LANES + l];""",
        )
    return f"""
/* The first `count` frames, one after another. */
static void normalised(const float *restrict level, int count, float *restrict frames)
{{
    for (int l = 0; l < count; ++l) {{
        for (int out = 0; out < {outputs}; ++out) {{{transform}
            frames[l * {outputs} + out] = ({value} - feature_mean[out]) * feature_scale[out];
        }}
    }}
}}"""


def _features(frontend: Frontend, passes: list[str]) -> str:
    n, hop = frontend.n_fft, frontend.hop
    bands, outputs = frontend.mel.shape[0], frontend.mean.shape[0]
    sides, calls = ["a", "b"], []
    for i, name in enumerate(passes):
        x, y = sides[i % 2], sides[(i + 1) % 2]
        calls.append(f"        {name}({x}, {x} + ODD, {y}, {y} + ODD);")
    z, free = sides[len(passes) % 2], sides[(len(passes) + 1) % 2]
    run = "\n".join(calls)
    return f"""
/* Features [count, {outputs}] of the frames that begin at samples 0, {hop}, ... */
static void features(const float *restrict samples, int count, float *restrict frames)
{{
    enum {{ ODD = {n // 2} * LANES, TURNED = {hop} * COLUMNS, SPACE = {n} * LANES }};
    float a[SPACE], b[SPACE > TURNED ? SPACE : TURNED], level[{bands} * LANES];
    for (int start = 0; start < count; start += LANES) {{
        const int here = count - start < LANES ? count - start : LANES;
        const float *x = samples + start * {hop};
        if (LANES > 1) turn(x, here, b);
        windowed(LANES > 1 ? b : x, a);
{run}
        powers({z}, {z} + ODD, {free});
        levels({free}, level);
        normalised(level, here, frames + start * {outputs});
    }}
}}"""
