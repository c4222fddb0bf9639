"""C as text: constants, and the affine maps on which nearly all arithmetic is spent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

LINE = 96


WEIGHTS = ("float32", "int8")


class Source:
    """Parts of a C file in order, each once.

    Args:
      weights: what weights are stored as, of `WEIGHTS`; sums are of float32 in any case.
    """

    def __init__(self, weights: str = "float32") -> None:
        if weights not in WEIGHTS:
            raise ValueError(f"weights: expected one of {', '.join(WEIGHTS)}, got {weights!r}")
        self.int8 = weights == "int8"
        self._parts: dict[str, None] = {}

    def add(self, part: str) -> None:
        """Append a part that does not stand there yet."""
        self._parts.setdefault(part.strip("\n"))

    def text(self) -> str:
        """All of it."""
        return "\n\n".join(self._parts) + "\n"


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """Name → a C identifier, in lower case; two names never share one."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII).lower()
        taken = set(found.values())
        found[name] = next(
            word for i in range(len(names)) if (word := plain + f"_{i}" * (i > 0)) not in taken
        )
    return found


def constant(name: str, values: np.ndarray | Sequence[int], kind: str = "float") -> str:
    """A constant array; float32 to the last bit."""
    flat = np.asarray(values).reshape(-1)
    if kind == "float":
        flat = flat.astype(np.float32)
        if not np.isfinite(flat).all():
            raise ValueError(f"{name}: expected finite numbers")
    words = (f"{x:.9g}" for x in flat.tolist())
    return f"static const {kind} {name}[{flat.size}] = {{\n{_wrapped(words)}\n}};"


def _wrapped(words: Iterable[str]) -> str:
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) + 2 > LINE:
            lines.append(line)
            line = ""
        line += f"{word}, "
    return "\n".join([*lines, line]).replace(" \n", "\n").rstrip()


def block_of(outputs: int, widest: int) -> int:
    """Outputs that are summed together, in registers: a multiple of what a vector holds."""
    padded = -(-outputs // 8) * 8
    return next(size for size in (32, 16, 8) if size <= widest and padded % size == 0)


def packed(weights: np.ndarray, block: int) -> np.ndarray:
    """[inputs, outputs] as [outputs / block, inputs, block], with zeros at the end."""
    inputs, outputs = weights.shape
    count = -(-outputs // block)
    padded = np.zeros((inputs, count * block), weights.dtype)
    padded[:, :outputs] = weights
    return padded.reshape(inputs, count, block).transpose(1, 0, 2)


def rounded(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [..., outputs] as whole numbers from -127 to 127, times a scale for each output."""
    most = np.abs(weights).max(axis=tuple(range(weights.ndim - 1)))
    scale = np.where(most > 0, most, 1.0) / 127
    return np.rint(weights / scale), scale


def write_taps(source: Source, name: str, taps: np.ndarray) -> str:
    """Write `NAME_taps` [taps, channels]; C that scales a sum over the taps of channel c."""
    if not source.int8:
        source.add(constant(f"{name}_taps", taps))
        return ""
    whole, scale = rounded(taps)
    source.add(constant(f"{name}_taps", whole.astype(int), "int8_t"))
    source.add(constant(f"{name}_tap_scale", scale))
    return f" * {name}_tap_scale[c]"


def write_weights(
    source: Source, name: str, kernel: np.ndarray, bias: np.ndarray, block: int
) -> str:
    """Write the weights of an affine map [inputs, outputs]; the arguments that `affine` takes."""
    parts = {"bias": packed(bias[None], block)}
    if source.int8:
        kernel, scale = rounded(kernel)
        parts = {"scale": packed(scale[None], block)} | parts
        source.add(constant(f"{name}_kernel", packed(kernel, block).astype(int), "int8_t"))
    else:
        source.add(constant(f"{name}_kernel", packed(kernel, block)))
    for part, values in parts.items():
        source.add(constant(f"{name}_{part}", values))
    return ", ".join(f"{name}_{part}" for part in ("kernel", *parts))


def affine(source: Source, rows: int, inputs: int, outputs: int, block: int) -> str:
    """Write the function y [rows, outputs] = x [rows, inputs] · w + b, if it is new; its name.

    Sums stay in registers: every trip count but the one over blocks is a constant. Of whole numbers
    w they are scaled at the end.
    """
    name = f"affine_{rows}x{inputs}x{outputs}_by_{block}"
    count = -(-outputs // block)
    rest = outputs - (count - 1) * block
    kept = str(block) if rest == block else f"(at == {count - 1} ? {rest} : {block})"
    kind, scales, begin, step, value = "float", "", "b[j]", "", "sum[r][j]"
    if source.int8:
        kind, scales, step = "int8_t", "\n    const float *restrict s,", f", s += {block}"
        begin, value = "0", "sum[r][j] * s[j] + b[j]"
    source.add(f"""
static void {name}(
    const float *restrict x, const {kind} *restrict w,{scales} const float *restrict b,
    float *restrict y)
{{
    for (int at = 0; at < {count}; ++at, w += {inputs * block}, b += {block}{step}) {{
        float sum[{rows}][{block}];
        for (int r = 0; r < {rows}; ++r)
            for (int j = 0; j < {block}; ++j) sum[r][j] = {begin};
        for (int i = 0; i < {inputs}; ++i)
            for (int r = 0; r < {rows}; ++r)
                for (int j = 0; j < {block}; ++j)
                    sum[r][j] += x[r * {inputs} + i] * w[i * {block} + j];
        for (int r = 0; r < {rows}; ++r)
            for (int j = 0; j < {kept}; ++j)
                y[r * {outputs} + at * {block} + j] = {value};
    }}
}}""")
    return name
