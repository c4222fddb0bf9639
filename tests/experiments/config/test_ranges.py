"""Every field of a config, with values that nobody means."""

import dataclasses
import math
import typing

import pytest

from experiments.config import Config, from_json, override, to_json
from experiments.config.ranges import NUMBERS

PARTS = ("model", "data", "train")
FIELDS = ["description"] + [
    f"{part}.{field.name}"
    for part in PARTS
    for field in dataclasses.fields(getattr(Config(), part))
]
LARGE = "train.cost_weight"  # any price is one; a run that diverges at it says so
# Of these a number below 0 means something.
MAY_BE_NEGATIVE = {
    "model.gate_bias",
    "data.overlap",
    "data.snr_range_db",
    "data.negative_snr_db",
    "train.entropy_weight",
}


def kind_of(path: str) -> str:
    """The field's type as text, such as `float | None`."""
    part, _, name = path.rpartition(".")
    owner = getattr(Config(), part) if part else Config()
    return str(typing.get_type_hints(type(owner))[name])


def with_value(path: str, value: object) -> dict[str, object]:
    """The default config as JSON values with one of them changed."""
    values = to_json(Config())
    part, _, name = path.rpartition(".")
    (values[part] if part else values)[name] = value
    return values


def refused(path: str, value: object) -> bool:
    """Whether it is, by a line that names the field."""
    try:
        from_json(with_value(path, value))
    except ValueError as error:
        said = str(error)
    else:
        return False
    assert f"config field {path!r}: expected" in said
    assert "\n" not in said
    return True


@pytest.mark.parametrize("path", FIELDS)
def test_from_json_refuses_what_nobody_means(path: str) -> None:
    for value in (math.nan, math.inf, -math.inf, 1e30, 10**400, [[1]], {}, [None]):
        if value == 1e30 and path == LARGE:
            continue
        assert refused(path, value), value
        if "tuple" in kind_of(path):
            assert refused(path, [value, value]), value
    assert refused(path, "") == (path != "description")
    assert refused(path, -1) == (path not in MAY_BE_NEGATIVE or "tuple" in kind_of(path))
    assert refused(path, None) == ("None" not in kind_of(path))
    if "tuple" not in kind_of(path):
        assert refused(path, [])


@pytest.mark.parametrize("path", FIELDS)
def test_override_refuses_what_nobody_means(path: str) -> None:
    if "str" in kind_of(path):  # any text is one
        return
    for text in ("nan", "inf", "-inf", "1e30", "", "9" * 39, "[1]"):
        if text == "1e30" and path == LARGE:
            continue
        if text == "" and "tuple" in kind_of(path):
            continue  # no values, as (): left to what is built of it
        with pytest.raises(ValueError, match=f"'{path}': expected"):
            override(Config(), [f"{path}={text}"])


def test_every_number_has_a_range() -> None:
    numbers = {path for path in FIELDS if "float" in kind_of(path) or "int" in kind_of(path)}
    assert numbers == set(NUMBERS)


def test_the_ends_of_a_range() -> None:
    assert override(Config(), ["train.discount=1"]).train.discount == 1
    assert override(Config(), ["train.max_grad_norm=none"]).train.max_grad_norm is None
    with pytest.raises(ValueError, match=r"expected a number in \(0, 1e18\], got 0.0"):
        override(Config(), ["train.max_grad_norm=0"])
    assert override(Config(), ["model.max_hz=8000"]).model.max_hz == 8000  # half of 16 kHz
    with pytest.raises(ValueError, match=r"'model.max_hz': expected a number in .*, got 8001.0"):
        override(Config(), ["model.max_hz=8001"])
    with pytest.raises(ValueError, match=r"expected a number in \[0, 1\), got 1.0"):
        override(Config(), ["train.average_decay=1"])
