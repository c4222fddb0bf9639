"""The plan of a stream: which edges run over its rows, and which on windows.

Training, costs and the step of a stream read it; they agree because it is one.
"""

from __future__ import annotations

from sanas_jax.graph.net import Net


def row_strides(net: Net, hop: int) -> dict[str, int]:
    """Edges that run once over the rows of a stream → input frames per row of their output.

    Their blocks commute with shifts in time (`time_stride`), and so does everything before them.

    Args:
      net: its input is a window of `net.input_shape[0]` frames.
      hop: frames between the starts of two windows.
    """
    strides, of_edge = {net.input: 1}, {}
    for layer in net.layers[1:]:
        for edge in net.incoming[layer.name]:
            block_stride = getattr(edge.block, "time_stride", None)
            if edge.source not in strides or not block_stride:
                continue
            stride = strides[edge.source] * block_stride
            if hop % stride == 0:
                of_edge[edge.name] = stride
                if layer.name in net.trunk:
                    strides[layer.name] = stride
    return of_edge


def rows_to_begin(size: int, fresh: int) -> int:
    """Rows that an edge computes where it begins anew, for a window of `size` of them.

    Exactly these, or those of as many turns of `fresh` rows as hold them: a computation for another
    number of rows is compiled beside the turns', which is not worth an eighth of a window.
    """
    in_turns = -(-size // fresh) * fresh
    return size if in_turns > size + size / 8 else in_turns
