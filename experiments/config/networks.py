"""The super-network that a config names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from experiments.config.schema import ModelConfig
from sanas_jax import spaces
from sanas_jax.blocks.audio import LogMel
from sanas_jax.graph import Net
from sanas_jax.spaces.kws import FAMILIES, WINDOW_SHAPE
from sanas_jax.spaces.separable import WIDE, Block

RESNETS: dict[str, Callable[..., Net]] = {
    "dense-resnet": spaces.dense_resnet,
    "resnet": spaces.resnet,
    "resnet-fabric": spaces.resnet_fabric,
}


# Published networks: their names say their sizes.
SPEECH: dict[str, Callable[..., Net]] = {
    **{f"bc-resnet-{tau:g}": partial(spaces.bc_resnet, tau) for tau in (1, 1.5, 2, 3, 6, 8)},
    "tc-resnet8": partial(spaces.tc_resnet, 8),
    "tc-resnet8-1.5": partial(spaces.tc_resnet, 8, 1.5),
    "tc-resnet14": partial(spaces.tc_resnet, 14),
    "tc-resnet14-1.5": partial(spaces.tc_resnet, 14, 1.5),
    **{f"sparknet-{width}": partial(spaces.sparknet, width) for width in (16, 32)},
    **{f"rep-cnn-{width}": partial(spaces.rep_cnn, width) for width in (32, 64, 128)},
}


def library_net(
    model: ModelConfig, num_classes: int, input_shape: tuple[int, ...] | None = None
) -> Net:
    """One of the library's, with the config's `maps` and `depth` in place of the family's.

    Args:
      model: `family` names it.
      num_classes: K.
      input_shape: of an image; None for a window of speech.
    """
    shape: Any = WINDOW_SHAPE if input_shape is None else input_shape
    gated = model.family == "separable-gated"
    if model.per_pixel and model.family != "fabric":
        raise ValueError(
            f"config field 'model.family': expected 'fabric' to label pixels, got {model.family!r}"
        )
    if gated and input_shape is not None:
        raise ValueError(
            "config field 'model.family': 'separable-gated' expects audio, got images of shape "
            f"{tuple(input_shape)}"
        )
    own: dict[str, Any] = {"num_classes": num_classes, "input_shape": shape}
    if model.family in FAMILIES:
        _no_depth(model)
        return spaces.kws_cnn(model.family, shortcuts=model.shortcuts, maps=model.maps, **own)
    if model.family == "separable" or gated:
        _no_depth(model)
        if model.maps is not None:
            own["wide"] = _with_maps(WIDE, model.maps)
        if gated:
            own |= {"log_mel": LogMel(max_hz=model.max_hz), "input_shape": None}
        return spaces.separable(**own)
    if model.family in SPEECH:
        if model.maps is not None or model.depth is not None:
            raise ValueError(
                f"config fields 'model.maps', 'model.depth': {model.family} has sizes of its own"
            )
        return SPEECH[model.family](**own)
    if model.family == "fabric":
        if model.depth is not None:
            own["layers"] = model.depth
        if model.maps is not None:
            own["channels"] = _one(model)
        return spaces.fabric(per_pixel=model.per_pixel, **own)
    if model.family in RESNETS:
        if model.depth is not None:
            own["blocks"] = model.depth
        if model.maps is not None:
            own["maps"] = model.maps
        return RESNETS[model.family](**own)
    families = sorted([*FAMILIES, *RESNETS, *SPEECH, "fabric", "separable", "separable-gated"])
    raise ValueError(
        f"config field 'model.family': expected one of {families}, got {model.family!r}"
    )


def _one(model: ModelConfig) -> int:
    """The single number of channels that a family takes."""
    if model.maps is None or len(model.maps) != 1:
        raise ValueError(
            f"config field 'model.maps': expected one number for {model.family}, got {model.maps}"
        )
    return model.maps[0]


def _with_maps(blocks: Sequence[Block], maps: tuple[int, ...]) -> tuple[Block, ...]:
    """The blocks of a chain with other widths."""
    if len(maps) != len(blocks):
        raise ValueError(
            f"config field 'model.maps': expected {len(blocks)} numbers for separable, got {maps}"
        )
    return tuple((m, kernel, stride) for m, (_, kernel, stride) in zip(maps, blocks, strict=True))


def _no_depth(model: ModelConfig) -> None:
    if model.depth is not None:
        raise ValueError(f"config field 'model.depth': {model.family} has a depth of its own")
