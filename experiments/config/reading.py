"""Configs read, overridden by `--set a.b=value`, compared, and written as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import runpy
import traceback
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config.ranges import check_fields, typed
from experiments.config.schema import Config, Hooks


def load_config(path: str) -> tuple[Config, Hooks]:
    """Run a config file: what its `get_config()` returns, and its hooks.

    ValueError for a file that is none, and for what is raised in it: that is for who wrote it.
    """
    if not Path(path).is_file():
        raise ValueError(f"--config: expected a Python file with get_config(), got {path!r}")
    with _naming_line(path):
        namespace = runpy.run_path(path)
    if not callable(namespace.get("get_config")):
        raise ValueError(f"--config: expected {path} to define get_config()")
    with _naming_line(path):
        config = namespace["get_config"]()
    if not isinstance(config, Config):
        raise ValueError(
            f"--config: expected get_config() to return a Config, got {type(config).__name__}"
        )
    check_fields(config)
    return config, Hooks(namespace.get("build_net"), namespace.get("build_cost"))


@contextlib.contextmanager
def _naming_line(path: str) -> Iterator[None]:
    """Say of what is raised in a config file in which line that was."""
    try:
        yield
    except (Exception, SystemExit) as error:  # code of a user's may raise anything, or end us
        lines = [
            line
            for frame, line in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename == path
        ]
        at = f"{path}, line {lines[-1]}" if lines else path
        raise ValueError(f"--config: {at}: {type(error).__name__}: {error}") from error


def override(config: Any, assignments: Sequence[str]) -> Any:
    """Apply `a.b=value` assignments, each parsed as its field's type."""
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set: expected name=value, got {assignment!r}")
        config = _assign(config, name.strip().split("."), text.strip(), name.strip())
    if isinstance(config, Config):
        check_fields(config)
    return config


def to_json(config: Config) -> dict[str, Any]:
    """A config as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_json`; raises for unknown fields and impossible values."""
    config = _from_json(Config, values, "")
    check_fields(config)
    return config


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config's values, nested as in `to_json`, as `a.b` → value."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value
    return out


def difference(old: Config, new: Config) -> list[str]:
    """Fields in which two configs differ, as `a.b: old → new`; the cache may have moved."""
    ours, theirs = flatten(to_json(old)), flatten(to_json(new))
    return [
        f"{name}: {ours[name]!r} → {theirs[name]!r}"
        for name in sorted(ours)
        if ours[name] != theirs.get(name) and name not in ("data.cache", "description")
    ]


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _known_field(cls: type, name: str, path: str) -> Any:
    """The field's type, or a ValueError with the nearest name."""
    hints = _types(cls)
    if name in hints:
        return hints[name]
    close = difflib.get_close_matches(name, hints, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {sorted(hints)}"
    raise ValueError(f"config field {path!r} does not exist; {hint}")


def _assign(config: Any, names: Sequence[str], text: str, path: str) -> Any:
    kind = _known_field(type(config), names[0], path)
    if len(names) > 1:
        if not dataclasses.is_dataclass(kind):
            raise ValueError(f"config field {path!r} does not exist; {names[0]!r} has no fields")
        value = _assign(getattr(config, names[0]), names[1:], text, path)
    elif dataclasses.is_dataclass(kind):
        raise ValueError(f"config field {path!r}: expected {path}.<field>=value")
    else:
        value = _parse(kind, text, path)
    return dataclasses.replace(config, **{names[0]: value})


def _parse(kind: Any, text: str, path: str) -> Any:
    """Text as a value of the field's type."""
    arms = [arm for arm in typing.get_args(kind) if arm is not types.NoneType]
    if isinstance(kind, types.UnionType):
        return None if text.lower() == "none" else _parse(arms[0], text, path)
    try:
        if typing.get_origin(kind) is tuple:
            if text.startswith("(") and text.endswith(")"):
                text = text[1:-1]
            return tuple(arms[0](part.strip()) for part in text.split(",") if part.strip())
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError, OverflowError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise ValueError(f"config field {path!r}: expected {name}, got {text!r}") from error


def _from_json(cls: type, values: Mapping[str, Any], path: str) -> Any:
    fields = {}
    if not isinstance(values, Mapping):
        raise ValueError(f"config field {path.rstrip('.')!r}: expected fields, got {values!r}")
    for name, value in values.items():
        kind = _known_field(cls, name, path + name)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            value = _from_json(kind, value, f"{path}{name}.")
        else:
            value = typed(kind, value, path + name)
        fields[name] = value
    return cls(**fields)
