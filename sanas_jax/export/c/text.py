"""C as text: constants, and the affine maps on which nearly all arithmetic is spent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

LINE = 96


class Source:
    """Parts of a C file in order, each once."""

    def __init__(self) -> None:
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


def affine(source: Source, rows: int, inputs: int, outputs: int, block: int) -> str:
    """Write the function y [rows, outputs] = x [rows, inputs] · w + b, if it is new; its name.

    Sums stay in registers: every trip count but the one over blocks is a constant.
    """
    name = f"affine_{rows}x{inputs}x{outputs}_by_{block}"
    count = -(-outputs // block)
    rest = outputs - (count - 1) * block
    kept = str(block) if rest == block else f"(at == {count - 1} ? {rest} : {block})"
    source.add(f"""
static void {name}(
    const float *restrict x, const float *restrict w, const float *restrict b, float *restrict y)
{{
    for (int at = 0; at < {count}; ++at, w += {inputs * block}, b += {block}) {{
        float sum[{rows}][{block}];
        for (int r = 0; r < {rows}; ++r)
            for (int j = 0; j < {block}; ++j) sum[r][j] = b[j];
        for (int i = 0; i < {inputs}; ++i)
            for (int r = 0; r < {rows}; ++r)
                for (int j = 0; j < {block}; ++j)
                    sum[r][j] += x[r * {inputs} + i] * w[i * {block} + j];
        for (int r = 0; r < {rows}; ++r)
            for (int j = 0; j < {kept}; ++j) y[r * {outputs} + at * {block} + j] = sum[r][j];
    }}
}}""")
    return name
