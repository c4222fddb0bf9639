"""The residual network for keyword spotting of SANAS's code, after res-15 (Tang & Lin, 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from sanas_jax.blocks import PooledConv
from sanas_jax.graph import Net
from sanas_jax.spaces.kws import WINDOW_SHAPE
from sanas_jax.spaces.resnet import resnet


def dense_resnet(
    blocks: int | Sequence[int] = 3,
    maps: Sequence[int] = (45,),
    *,
    input_shape: tuple[int, int, int] = WINDOW_SHAPE,
    num_classes: int = 12,
    pool: tuple[int, int] = (4, 3),
    bottleneck: bool = False,
    shifts: str = "",
) -> Net:
    """A ResNet on windows of speech, pooled over `pool` (time, MFCC) first: 37.2M MACs by default.

    Other arguments as of `resnet`. Its convolutions pad their input, so they are not shared between
    overlapping windows.
    """
    return resnet(
        blocks,
        maps,
        input_shape=input_shape,
        num_classes=num_classes,
        bottleneck=bottleneck,
        shifts=shifts,
        stem=PooledConv(maps[0], pool),
    )
