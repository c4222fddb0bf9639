"""What holds for any config, any labels and any recording, by hypothesis."""

import dataclasses
import typing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.speech.audio import Audio
from data_prep.speech.wav import write_wav
from experiments.config import Config, from_json, to_json
from experiments.config.ranges import NUMBERS
from experiments.datasets.streams import read_stream

CLASSES = ("_silence_", "_unknown_", "yes", "a, b", "fünf")
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def value_of(path: str, kind: object) -> st.SearchStrategy[object]:
    """Values of a field of this type, within its range."""
    arms = [arm for arm in typing.get_args(kind) if arm is not type(None)]
    if typing.get_origin(kind) is tuple:
        size = len(arms) if arms[-1] is not Ellipsis else None
        one = value_of(path, arms[0])
        return st.lists(one, min_size=size or 0, max_size=size or 3).map(tuple)
    if arms:
        return st.none() | value_of(path, arms[0])
    if kind is bool:
        return st.booleans()
    if kind is str:
        return st.text(min_size=1)
    low, high = map(float, NUMBERS[path][1:-1].split(","))
    if kind is int:
        return st.integers(int(low), int(high))
    opened = {"exclude_min": NUMBERS[path][0] == "(", "exclude_max": NUMBERS[path][-1] == ")"}
    return st.floats(low, high, **opened)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A config with any value in some of its fields."""
    config = Config(description=draw(st.text()))
    for part in ("model", "data", "train"):
        old = getattr(config, part)
        hints = typing.get_type_hints(type(old))
        names = draw(
            st.sets(st.sampled_from([f.name for f in dataclasses.fields(old)]), max_size=6)
        )
        new = {name: draw(value_of(f"{part}.{name}", hints[name])) for name in sorted(names)}
        config = dataclasses.replace(config, **{part: dataclasses.replace(old, **new)})
    return config


@given(configs())
@QUICK
def test_any_config_is_the_same_after_a_round_trip(config: Config) -> None:
    assert from_json(to_json(config)) == config


@given(st.lists(st.tuples(st.sampled_from(CLASSES[1:]), st.floats(0, 999)), min_size=1))
@QUICK
def test_any_labels_are_read_back(tmp_path: Path, placed: list[tuple[str, float]]) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(16_000, np.int16))
    text = "".join(f"{word}, {ms:.4f}\n" for word, ms in placed)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    stream = read_stream(tmp_path / "a.wav", tmp_path / "a.txt", CLASSES, 16_000)
    assert stream.words == [word for word, _ in placed]
    assert stream.times_ms == [round(float(f"{ms:.4f}")) for _, ms in placed]


@given(st.text())
@QUICK
def test_any_text_is_labels_or_a_line_that_names_it(tmp_path: Path, text: str) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(10, np.int16))
    (tmp_path / "a.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_stream(tmp_path / "a.wav", tmp_path / "a.txt", CLASSES, 16_000)
    except ValueError as error:
        said = str(error)
        assert str(tmp_path / "a.txt") in said
        assert "\n" not in said


@given(st.lists(st.integers(-(2**15), 2**15 - 1), max_size=500), st.integers(1, 600))
@QUICK
def test_any_recording_is_read_back_in_any_blocks(
    tmp_path: Path, values: list[int], size: int
) -> None:
    samples = np.array(values, np.int16)
    write_wav(tmp_path / "a.wav", samples)
    with Audio(tmp_path / "a.wav") as file:
        found = np.concatenate([np.zeros(0, np.float32), *file.blocks(size)])
    np.testing.assert_array_equal(found, samples.astype(np.float32) / 32768)
    with Audio(tmp_path / "a.wav") as file:
        np.testing.assert_array_equal(file.integers(), samples)
