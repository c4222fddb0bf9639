"""Features in C, by a real FFT: `data.features.extract` on frames that lie in the signal.

A few frames are transformed side by side, LANES of them: every loop over them is one vector. Frames
overlap, so the signal is laid out that way once, hop by hop. A real transform of n samples is a
complex one of n/2, in passes of mixed radix that leave their results in order (Stockham 1966), and
a last step that takes even and odd samples apart. Each of these is a function of its own, since gcc
believes `restrict` only of arguments.
"""

from __future__ import annotations

import numpy as np

from sanas_jax.data.features import POWER_FLOOR, Frontend, dct
from sanas_jax.export.c.text import Source, constant

LANES = 8


def write_features(source: Source, frontend: Frontend) -> None:
    """Write `features(samples, count, frames)`: log-mel bands, or MFCC."""
    n = frontend.n_fft
    half = n // 2
    mel = np.asarray(frontend.mel)[:, : frontend.num_bins]
    time = np.arange(n)
    angle = 2 * np.pi * np.arange(half // 2 + 1) / n
    source.add(
        f"#ifndef LANES\n#define LANES {LANES} /* frames that are transformed together */\n#endif"
    )
    # Halved, as the sums and differences are that take even and odd samples apart.
    source.add(constant("half_hann", (0.5 - 0.5 * np.cos(2 * np.pi * time / n)) / 2))
    source.add(constant("turn_re", np.cos(angle)))
    source.add(constant("turn_im", -np.sin(angle)))
    _write_mel(source, mel)
    source.add(constant("feature_mean", np.asarray(frontend.mean)))
    source.add(constant("feature_scale", 1 / np.asarray(frontend.std, np.float64)))
    bands, outputs = mel.shape[0], frontend.mean.shape[0]
    if frontend.cepstral:
        source.add(constant("cosines", dct(bands, outputs).T))
    source.add(_frames(n, frontend.hop))
    passes = _write_passes(source, half)
    source.add(_powers(half))
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


def _radices(n: int) -> list[int]:
    """Factors of n: fours, then what is left."""
    found = []
    for radix in (4, 2, *range(3, n + 1, 2)):
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found or [1]


def _write_passes(source: Source, n: int) -> list[str]:
    """A pass for each factor of n; their names."""
    names, length, stride = [], n, 1
    for i, radix in enumerate(_radices(n)):
        m = length // radix
        angle = -2 * np.pi * np.outer(np.arange(m), np.arange(1, radix)) / length
        source.add(constant(f"twiddle_{i}", np.stack([np.cos(angle), np.sin(angle)], -1)))
        source.add(_pass(i, radix, m, stride))
        names.append(f"pass_{i}")
        length, stride = m, stride * radix
    return names


def _pass(i: int, radix: int, m: int, stride: int) -> str:
    """y[q + s(rp + k)] = w^pk Σ_j x[q + s(p + mj)] e^(-2πi jk/r), for all p < m and q < s."""
    step = f"{stride} * LANES"
    load = "\n".join(
        f"            const float re{j} = xr[q + {m * j} * {step}];\n"
        f"            const float im{j} = xi[q + {m * j} * {step}];"
        for j in range(radix)
    )
    store = "\n".join(
        f"            yr[q + {k} * {step}] = sr{k} * w[{2 * k - 2}] - si{k} * w[{2 * k - 1}];\n"
        f"            yi[q + {k} * {step}] = sr{k} * w[{2 * k - 1}] + si{k} * w[{2 * k - 2}];"
        for k in range(1, radix)
    )
    return f"""
static void pass_{i}(const float *restrict xr, const float *restrict xi, float *restrict yr,
    float *restrict yi)
{{
    const float *w = twiddle_{i};
    for (int p = 0; p < {m}; ++p, w += {2 * radix - 2}) {{
        for (int q = 0; q < {step}; ++q) {{
{load}
{_butterfly(radix)}
            yr[q] = sr0;
            yi[q] = si0;
{store}
        }}
        xr += {step};
        xi += {step};
        yr += {radix} * {step};
        yi += {radix} * {step};
    }}
}}"""


def _butterfly(radix: int) -> str:
    """sr_k + i si_k = Σ_j (re_j + i im_j) e^(-2πi jk/r)."""
    lines = []

    def let(name: str, value: str) -> None:
        lines.append(f"            const float {name} = {value};")

    if radix == 1:
        return "            const float sr0 = re0, si0 = im0;"
    if radix == 2:
        for part, x in (("sr", "re"), ("si", "im")):
            let(f"{part}0", f"{x}0 + {x}1")
            let(f"{part}1", f"{x}0 - {x}1")
        return "\n".join(lines)
    if radix == 4:
        for x in ("re", "im"):
            let(f"{x}02", f"{x}0 + {x}2")
            let(f"{x}0_2", f"{x}0 - {x}2")
            let(f"{x}13", f"{x}1 + {x}3")
            let(f"{x}1_3", f"{x}1 - {x}3")
        for part, x in (("sr", "re"), ("si", "im")):
            let(f"{part}0", f"{x}02 + {x}13")
            let(f"{part}2", f"{x}02 - {x}13")
        let("sr1", "re0_2 + im1_3")
        let("si1", "im0_2 - re1_3")
        let("sr3", "re0_2 - im1_3")
        let("si3", "im0_2 + re1_3")
        return "\n".join(lines)
    pairs = range(1, radix // 2 + 1)
    for x in ("re", "im"):
        for j in pairs:
            let(f"{x}p{j}", f"{x}{j} + {x}{radix - j}")
            let(f"{x}m{j}", f"{x}{j} - {x}{radix - j}")
        let("sr0" if x == "re" else "si0", " + ".join([f"{x}0", *(f"{x}p{j}" for j in pairs)]))
    for k in pairs:
        angles = {j: 2 * np.pi * (j * k % radix) / radix for j in pairs}
        for x in ("re", "im"):
            even = (f"{float(np.cos(a)):.9g}f * {x}p{j}" for j, a in angles.items())
            odd = (f"{float(np.sin(a)):.9g}f * {x}m{j}" for j, a in angles.items())
            let(f"{x}c{k}", " + ".join([f"{x}0", *even]))
            let(f"{x}s{k}", " + ".join(odd))
        let(f"sr{k}", f"rec{k} + ims{k}")
        let(f"si{k}", f"imc{k} - res{k}")
        let(f"sr{radix - k}", f"rec{k} - ims{k}")
        let(f"si{radix - k}", f"imc{k} + res{k}")
    return "\n".join(lines)


def _frames(n: int, hop: int) -> str:
    """A column is a hop of the signal; a frame is a column and those after it."""
    more = -(-n // hop) - 1
    rest = n - more * hop  # rows of a frame's last column
    short = f"""    column[last] = column[0]; /* of whose other rows no frame asks */
    for (int r = {rest}; r < {hop}; ++r)
        for (int c = 0; c < COLUMNS; ++c) turned[r * COLUMNS + c] = column[c][r];
"""
    return f"""
#define COLUMNS (LANES + {more}) /* of {hop} samples, that so many frames lie in */

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


def _powers(half: int) -> str:
    """Bins k and n/2 - k of a real transform are made of the same two of the complex one."""
    return f"""
/* |X_k|^2, 0 <= k <= {half}, of the transform of even + i odd samples. */
static void powers(const float *restrict zr, const float *restrict zi, float *restrict power)
{{
    for (int k = 0; k <= {half // 2}; ++k) {{
        const int mirrored = {half} - k, q = k ? mirrored * LANES : 0;
        const float *pr = zr + k * LANES, *pi = zi + k * LANES;
        float *one = power + k * LANES, *other = power + mirrored * LANES;
        for (int l = 0; l < LANES; ++l) {{
            const float even_re = pr[l] + zr[q + l], even_im = pi[l] - zi[q + l];
            const float odd_re = pi[l] + zi[q + l], odd_im = zr[q + l] - pr[l];
            const float re = turn_re[k] * odd_re - turn_im[k] * odd_im;
            const float im = turn_re[k] * odd_im + turn_im[k] * odd_re;
            const float p = (even_re + re) * (even_re + re) + (even_im + im) * (even_im + im);
            other[l] = (even_re - re) * (even_re - re) + (even_im - im) * (even_im - im);
            one[l] = p;
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
