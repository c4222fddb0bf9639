"""The C file of a model is written once, and again where what it follows from is another."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.config import Hooks
from experiments.live import native
from experiments.machine.compiler import NoCompilerError, find_compiler
from experiments.runs.trained import read_model

EMPTY = "".join(
    f"void network_{name}(void) {{}}\n" for name in ("start", "tell", "begin", "decide")
)


@pytest.fixture(scope="module")
def model():
    return read_model("pretrained:kws")


def others(model):
    """Models that differ in one thing each."""
    info = model.info
    nudged = jax.tree.map(np.asarray, model.params)
    nudged["controller"]["head"]["bias"] = np.nextafter(nudged["controller"]["head"]["bias"], 9)
    yield dataclasses.replace(model, params=nudged)
    for frontend in (
        dataclasses.replace(info.frontend, mean=info.frontend.mean + 1),
        dataclasses.replace(info.frontend, padding="reflect"),
    ):
        yield dataclasses.replace(model, info=info._replace(frontend=frontend))
    for change in ({"static": True}, {"hop": 10}):
        config = dataclasses.replace(
            info.config, model=dataclasses.replace(info.config.model, **change)
        )
        yield dataclasses.replace(model, info=info._replace(config=config))
    yield dataclasses.replace(model, info=info._replace(classes=("a", *info.classes[1:])))


def test_each_thing_that_a_file_follows_from_tells_files_apart(model, monkeypatch):
    found = [native.follows_from(each) for each in (model, *others(model))]
    assert len(set(found)) == len(found) == 7
    assert native.follows_from(read_model("pretrained:kws")) == found[0]
    monkeypatch.setattr(native, "_code", lambda: b"another version")
    assert native.follows_from(model) not in found


def test_a_network_of_a_runs_own_is_told_apart_by_its_file(model):
    hooks = Hooks(build_net=lambda config, classes: model.sanas.net)
    own = dataclasses.replace(model, info=model.info._replace(hooks=hooks))
    assert native.follows_from(own) == ""


def test_a_file_is_not_written_twice(model, tmp_path, monkeypatch):
    try:
        find_compiler()
    except NoCompilerError as missing:
        pytest.skip(str(missing))
    written = []
    monkeypatch.setattr(native, "kept_programs", lambda: tmp_path)
    monkeypatch.setattr(native, "c_source", lambda *_, **__: written.append(1) or EMPTY)
    for _ in range(2):
        assert native.native_runtime(model).classes == 12
    assert len(written) == 1
    native.native_runtime(next(others(model)))
    assert len(written) == 2
