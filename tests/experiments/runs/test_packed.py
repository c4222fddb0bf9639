"""Packed models: what is written is read back, and anything else is refused in one line."""

import jax
import numpy as np
import pytest

from experiments.config import Config, Hooks, ModelConfig
from experiments.config.build import build_training
from experiments.runs import packed as packed_models
from experiments.runs.trained import read_model
from sanas_jax.rollout import init_model
from tests.helpers.packed import write_packed
from tests.helpers.toy import CLASSES

SMALL = ModelConfig(maps=(2, 2), state_size=4)
# Its blocks keep running statistics.
WITH_STATS = ModelConfig(family="dense-resnet", maps=(3,), depth=1, state_size=4)


def sanas_of(config):
    return build_training(Config(model=config), len(CLASSES), Hooks()).model


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("config", [SMALL, WITH_STATS], ids=["plain", "with statistics"])
def test_parameters_are_read_back(tmp_path, config):
    params = write_packed(tmp_path / "it", config)
    step, found = packed_models.read_params(tmp_path / "it", sanas_of(config), static=False)
    assert step == 120
    assert_equal(found, params)
    assert ("stats" in found) == (config is WITH_STATS)
    with np.load(tmp_path / "it" / "params.npz") as file:
        edge = "conv_0" if config is SMALL else next(iter(params["stats"]))
        assert any(name.startswith(f"net/{edge}/") for name in file)


def test_a_static_network_is_stored_without_controller(tmp_path):
    config = ModelConfig(maps=(2, 2), state_size=4, static=True)
    params = write_packed(tmp_path / "it", config)
    with np.load(tmp_path / "it" / "params.npz") as file:
        assert {name.split("/")[0] for name in file} == {"net", "step"}
    model = sanas_of(config)
    _, found = packed_models.read_params(tmp_path / "it", model, static=True)
    assert_equal(found["net"], params["net"])
    # Nothing asks it.
    drawn = init_model(model, jax.random.key(0))["controller"]
    assert_equal(found["controller"], jax.tree.map(np.zeros_like, drawn))


def test_parameters_of_another_network_are_refused(tmp_path):
    write_packed(tmp_path / "it", SMALL)
    other = sanas_of(ModelConfig(maps=(2, 3), state_size=4))
    with pytest.raises(ValueError, match=r"got another net/conv_1/\S+: \(2,\) in place of \(3,\)"):
        packed_models.read_params(tmp_path / "it", other, static=False)
    with pytest.raises(ValueError, match="another controller/"):
        packed_models.read_params(tmp_path / "it", sanas_of(SMALL), static=True)


def test_damaged_parameters_are_refused(tmp_path):
    write_packed(tmp_path / "it", SMALL)
    path = tmp_path / "it" / "params.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"params\.npz: expected packed parameters, got"):
        packed_models.read_params(tmp_path / "it", sanas_of(SMALL), static=False)


def test_resolve_knows_the_names_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_models, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match="expected one of none so far; got 'a'"):
        packed_models.resolve("pretrained:a")
    write_packed(tmp_path / "a", SMALL)
    write_packed(tmp_path / "b", SMALL)
    assert packed_models.names() == ["a", "b"]
    assert packed_models.resolve("pretrained:a") == tmp_path / "a"
    assert str(packed_models.resolve("runs/a")) == "runs/a"
    with pytest.raises(ValueError, match="expected one of a, b; got 'c'"):
        packed_models.resolve("pretrained:c")
    with pytest.raises(ValueError, match=r"got '\.\./a'"):
        packed_models.resolve("pretrained:../a")


def test_read_model_takes_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_models, "SHIPPED", tmp_path)
    params = write_packed(tmp_path / "a", SMALL)
    model = read_model("pretrained:a")
    assert model.workdir == tmp_path / "a"
    assert model.step == 120
    assert model.info.classes == CLASSES
    assert_equal(model.params, params)
    with pytest.raises(ValueError, match="expected 'latest' or 120 of a packed model, got '7'"):
        read_model("pretrained:a", "7")
