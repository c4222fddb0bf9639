"""Features in C, by a real FFT: `data.features.extract` on frames that lie in the signal.

A few frames are transformed side by side, LANES of them: every loop over them is one vector. A real
transform of n samples is a complex one of n/2, in passes of mixed radix that leave their results in
order (Stockham 1966), and a last step that takes even and odd samples apart.
"""

from __future__ import annotations

import numpy as np

from sanas_jax.data.features import POWER_FLOOR, Frontend, dct
from sanas_jax.export.c.text import Source, constant

LANES = 8


def write_features(source: Source, frontend: Frontend) -> None:
    """Write `features(samples, count, frames)`: log-mel bands, or MFCC."""
    n, bins = frontend.n_fft, frontend.num_bins
    half = n // 2
    mel = np.asarray(frontend.mel)[:, :bins]
    time = np.arange(n)
    angle = 2 * np.pi * np.arange(bins) / n
    source.add(
        f"#ifndef LANES\n#define LANES {LANES} /* frames that are transformed together */\n#endif"
    )
    source.add(constant("hann", 0.5 - 0.5 * np.cos(2 * np.pi * time / n)))
    source.add(constant("turn_re", np.cos(angle)))
    source.add(constant("turn_im", -np.sin(angle)))
    _write_mel(source, mel)
    source.add(constant("feature_mean", np.asarray(frontend.mean)))
    source.add(constant("feature_scale", 1 / np.asarray(frontend.std, np.float64)))
    passes = _write_passes(source, half)
    source.add(_LOG)
    bands, outputs = mel.shape[0], frontend.mean.shape[0]
    if frontend.cepstral:
        source.add(constant("cosines", dct(bands, outputs).T))
    source.add(_features(frontend, half, passes))


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


# Cephes' logf (Moshier), for many numbers at once; libm's takes one.
_LOG = """
/* Natural logs of positive normal numbers, in place. */
static void logs(float *restrict x)
{
    int32_t bits[LANES];
    float e[LANES];
    memcpy(bits, x, sizeof bits);
    for (int i = 0; i < LANES; ++i) {
        const int32_t exponent = (bits[i] - 0x3f3504f3) >> 23; /* of sqrt(1/2) to sqrt(2) */
        e[i] = (float)exponent;
        bits[i] -= (int32_t)((uint32_t)exponent << 23);
    }
    memcpy(x, bits, sizeof bits);
    for (int i = 0; i < LANES; ++i) {
        const float m = x[i] - 1.0f;
        float p = 7.0376836292e-2f;
        p = p * m - 1.1514610310e-1f;
        p = p * m + 1.1676998740e-1f;
        p = p * m - 1.2420140846e-1f;
        p = p * m + 1.4249322787e-1f;
        p = p * m - 1.6668057665e-1f;
        p = p * m + 2.0000714765e-1f;
        p = p * m - 2.4999993993e-1f;
        p = p * m + 3.3333331174e-1f;
        const float rest = m * m * m * p - 2.12194440e-4f * e[i] - 0.5f * m * m;
        x[i] = m + rest + 0.693359375f * e[i];
    }
}"""


def _features(frontend: Frontend, half: int, passes: list[str]) -> str:
    hop, bins = frontend.hop, frontend.num_bins
    bands, outputs = frontend.mel.shape[0], frontend.mean.shape[0]
    sides = [("ar", "ai"), ("br", "bi")]
    calls = []
    for i, name in enumerate(passes):
        (xr, xi), (yr, yi) = sides[i % 2], sides[(i + 1) % 2]
        calls.append(f"        {name}({xr}, {xi}, {yr}, {yi});")
    zr, zi = sides[len(passes) % 2]
    run = "\n".join(calls)
    # Digital silence has coefficients of 0 (`data.features.extract`).
    floored = f"sum[l] + {POWER_FLOOR:.9g}f"
    value = "level[out * LANES + l]"
    transform = ""
    if frontend.cepstral:
        floored, value = "sum[l] > 0 ? sum[l] : 1", "sum[l]"
        transform = f"""
            float sum[LANES];
            for (int l = 0; l < LANES; ++l) sum[l] = 0;
            for (int band = 0; band < {bands}; ++band)
                for (int l = 0; l < LANES; ++l)
                    sum[l] += cosines[out * {bands} + band] * level[band * LANES + l];"""
    return f"""
/* Features [count, {outputs}] of the frames that begin at samples 0, {hop}, ... */
static void features(const float *restrict samples, int count, float *restrict frames)
{{
    float ar[{half} * LANES], ai[{half} * LANES], br[{half} * LANES], bi[{half} * LANES];
    float power[{bins} * LANES], level[{bands} * LANES];
    for (int start = 0; start < count; start += LANES) {{
        const int here = count - start < LANES ? count - start : LANES;
        for (int l = 0; l < LANES; ++l) {{
            const float *x = samples + (start + (l < here ? l : 0)) * {hop};
            for (int j = 0; j < {half}; ++j) {{
                ar[j * LANES + l] = x[2 * j] * hann[2 * j];
                ai[j * LANES + l] = x[2 * j + 1] * hann[2 * j + 1];
            }}
        }}
{run}
        for (int k = 0; k < {bins}; ++k) {{
            const float *pr = {zr} + k % {half} * LANES, *pi = {zi} + k % {half} * LANES;
            const float *qr = {zr} + ({half} - k) % {half} * LANES;
            const float *qi = {zi} + ({half} - k) % {half} * LANES;
            for (int l = 0; l < LANES; ++l) {{
                const float even_re = 0.5f * (pr[l] + qr[l]), even_im = 0.5f * (pi[l] - qi[l]);
                const float odd_re = 0.5f * (pi[l] + qi[l]), odd_im = 0.5f * (qr[l] - pr[l]);
                const float re = even_re + turn_re[k] * odd_re - turn_im[k] * odd_im;
                const float im = even_im + turn_re[k] * odd_im + turn_im[k] * odd_re;
                power[k * LANES + l] = re * re + im * im;
            }}
        }}
        const float *w = mel_weight;
        for (int band = 0; band < {bands}; ++band) {{
            float sum[LANES];
            for (int l = 0; l < LANES; ++l) sum[l] = 0;
            for (int k = mel_first[band]; k < mel_end[band]; ++k, ++w)
                for (int l = 0; l < LANES; ++l) sum[l] += *w * power[k * LANES + l];
            for (int l = 0; l < LANES; ++l) level[band * LANES + l] = {floored};
            logs(level + band * LANES);
        }}
        for (int out = 0; out < {outputs}; ++out) {{{transform}
            for (int l = 0; l < here; ++l)
                frames[(start + l) * {outputs} + out] =
                    ({value} - feature_mean[out]) * feature_scale[out];
        }}
    }}
}}"""
