"""A real Fourier transform in C, of LANES signals side by side: their powers.

A transform of n real samples is a complex one of n/2, even samples beside odd ones, in passes of
mixed radix that leave their results in order (Stockham 1966), and a last step that takes the two
apart.
"""

from __future__ import annotations

import numpy as np

from sanas_jax.export.c.text import Source, constant


def write_transform(source: Source, n: int) -> list[str]:
    """Write a transform of n samples: passes, whose names are returned, and `powers` after them.

    A pass takes four pointers: to real and imaginary parts, and to where its own are written.
    `powers` leaves out two halves, so the samples are to be halved before.
    """
    half = n // 2
    passes = _write_passes(source, half)
    angle = 2 * np.pi * np.arange(half // 2 + 1) / n
    source.add(constant("turn_re", np.cos(angle)))
    source.add(constant("turn_im", -np.sin(angle)))
    source.add(_powers(half))
    return passes


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
