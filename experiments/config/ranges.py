"""The type and the range of every field of a config, checked before anything is made of it.

What fields must be together is in `checks`, what a network or the clips allow where they are built.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any

from experiments.config.schema import Config

# Every whole number, and every seed, that jax takes.
_COUNT, _SEED = 2**31 - 1, 2**32 - 1

# Intervals as mathematics writes them, a square bracket where the end belongs to it; of each number
# of a field that has several. Ends that are not of the thing itself keep squares finite in float32.
NUMBERS: dict[str, str] = {
    "model.maps": "[1, 65536]",
    "model.depth": "[1, 10000]",
    "model.state_size": "[1, 65536]",
    "model.gate_bias": "[-100, 100]",
    "model.max_hz": "[100, 8000]",
    "model.hop": "[1, 100000]",
    "data.pad": "[0, 10000]",
    "data.min_seconds": "(0, 3600]",
    "data.max_seconds": "(0, 3600]",
    "data.words_per_item": "[1, 10000]",
    "data.overlap": "[-3600, 3600]",
    "data.noise_probability": "[0, 1]",
    "data.max_noise_gain": "[0, 1e6]",
    "data.snr_range_db": "[-200, 200]",
    "data.white_noise": "[0, 1]",
    "data.silence_fraction": "[0, 1e6]",
    "data.unknown_fraction": "[0, 1e6]",
    "data.unclear_margin": "[0, 1e6]",
    "data.unclear_weight": "[0, 1e6]",
    "data.speed_range": "(0, 1000]",
    "data.gain_range": "(0, 1e6]",
    "data.negative_speech": "[0, 1]",
    "data.negative_sounds": "[0, 1]",
    "data.negative_strung": "[0, 1000]",
    "data.negative_mined": "[0, 1]",
    "data.negative_alone": "[0, 1]",
    "data.negative_snr_db": "[-200, 200]",
    "data.negative_gain": "(0, 1e6]",
    "data.negative_speed_range": "[0.1, 10]",
    "data.time_masks": "[0, 1000]",
    "data.time_mask_frames": "[0, 100000]",
    "data.frequency_masks": "[0, 1000]",
    "data.frequency_mask_bins": "[0, 100000]",
    "train.steps": f"[1, {_COUNT}]",
    "train.batch_size": "[1, 1000000]",
    "train.seed": f"[0, {_SEED}]",
    "train.learning_rate": "[0, 1000]",
    "train.warmup_steps": f"[0, {_COUNT}]",
    "train.controller_learning_rate": "[0, 1000]",
    "train.controller_delay_steps": f"[0, {_COUNT}]",
    "train.weight_decay": "[0, 1000]",
    "train.max_grad_norm": "(0, 1e18]",
    "train.class_weight_power": "[0, 10]",
    "train.label_smoothing": "[0, 1)",
    "train.teacher_weight": "[0, 1]",
    "train.cost_weight_changes": "[0, 1]",
    "train.full_weight": "[0, 1e6]",
    "train.distill_weight": "[0, 1e6]",
    "train.average_decay": "[0, 1)",
    "train.workers": "[1, 1000000]",
    "train.invalid_penalty": "[0, 1e9]",
    "train.budget": "(0, 1e18]",
    "train.budget_rate": "(0, 1e6]",
    "train.budget_damping": "[0, 1e6]",
    "train.budget_ramp_steps": f"[0, {_COUNT}]",
    "train.cost_weight": "[0, 1e38]",
    "train.cost_weight_range": "(0, 1e9]",
    "train.cost_limit": "[0, 1]",
    "train.cost_ramp_steps": f"[0, {_COUNT}]",
    "train.discount": "[0, 1]",
    "train.samples": "[1, 100000]",
    "train.estimator_decay": "[0, 1)",
    "train.entropy_weight": "[-1e6, 1e6]",
    "train.log_every": f"[1, {_COUNT}]",
    "train.eval_every": f"[1, {_COUNT}]",
    "train.eval_batches": "[1, 1000000]",
    "train.front_size": "[1, 10000]",
}
# Texts that may be empty; any other must say something.
_MAY_BE_EMPTY = ("description",)


def check_fields(config: Config) -> None:
    """Raise ValueError that names the field for a value of another type, or out of range."""
    _check(config, "")


def typed(kind: Any, value: Any, path: str) -> Any:
    """A value of a JSON file as the field's type has it; ValueError for any other.

    Lists are tuples, and whole numbers stand for floats.
    """
    if isinstance(kind, types.UnionType):
        some = next(arm for arm in typing.get_args(kind) if arm is not types.NoneType)
        return None if value is None else typed(some, value, path)
    if typing.get_origin(kind) is tuple:
        arms = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            raise _wrong(path, "a list", value)
        if arms[-1] is not Ellipsis and len(arms) != len(value):
            raise _wrong(path, f"{len(arms)} values", value)
        return tuple(typed(arms[0], one, path) for one in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1000 else math.inf
    if type(value) is not kind:
        raise _wrong(path, f"a value of type {kind.__name__}", value)
    return value


def _check(part: Any, prefix: str) -> None:
    hints = _types(part.__class__)
    for field in dataclasses.fields(part):
        value, path = getattr(part, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            _check(value, f"{path}.")
            continue
        typed(hints[field.name], value, path)
        several: Any = value if isinstance(value, tuple) else (value,)
        for one in several:
            if path in NUMBERS and one is not None and not _within(NUMBERS[path], one):
                raise _wrong(path, f"a number in {NUMBERS[path]}", value)
            if one == "" and path not in _MAY_BE_EMPTY:
                raise _wrong(path, "a word", value)


@functools.cache
def _types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _within(interval: str, value: float) -> bool:
    """Whether an interval holds a number; none holds NaN."""
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def _wrong(path: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"config field {path!r}: expected {expected}, got {repr(value)[:60]}")
