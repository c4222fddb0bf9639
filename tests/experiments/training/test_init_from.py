"""Runs that start from others: of the same classes, of other classes, of other networks."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import Config, ModelConfig, TrainConfig, load_config, override
from experiments.runs import folder as run_folder
from experiments.runs import packed as packed_models
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.trained import restore_params
from experiments.training.begin import begin
from experiments.training.init_from import fresh_member
from sanas_jax.rollout import init_model
from tests.helpers.packed import write_described, write_packed
from tests.helpers.places import CONFIGS
from tests.helpers.toy import write_toy_cache

CONFIG = str(CONFIGS / "kws_debug.py")
SMALL = ModelConfig(maps=(2, 2), state_size=4)
SETTINGS = ("model.maps=2,2", "model.state_size=4", "data.max_seconds=1.2")


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """The toy data, and the same with one word less: its clips are of an unknown word."""
    folder = tmp_path_factory.mktemp("start")
    write_toy_cache(folder / "same")
    shutil.copytree(folder / "same", folder / "other")
    meta = json.loads((folder / "other" / "dataset.json").read_text())
    meta["classes"] = meta["classes"][:-1]
    (folder / "other" / "dataset.json").write_text(json.dumps(meta))
    labels = np.load(folder / "other" / "labels.npy")
    np.save(folder / "other" / "labels.npy", np.where(labels == 4, 1, labels).astype(np.int32))
    return folder


def begin_run(cache, workdir, source, *settings):
    config, _ = load_config(CONFIG)
    paths = (f"data.cache={cache}", f"train.init_from={source}")
    config = override(config, (*SETTINGS, *paths, *settings))
    with begin([config], [workdir], CONFIG) as job:
        return job.runs[0]


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_same_classes_go_on_as_they_were(caches, tmp_path, capsys):
    params = write_packed(tmp_path / "source", SMALL)
    run = begin_run(caches / "same", tmp_path / "run", tmp_path / "source")
    assert_equal(run.member.train.params, params)
    source = run_folder.read(tmp_path / "source")
    assert_equal(run.info.class_weights, source.class_weights)
    assert "took over 9 of 9 edges and the controller" in capsys.readouterr().out


def test_other_classes_begin_the_output_anew(caches, tmp_path, capsys):
    params = write_packed(tmp_path / "source", SMALL)
    fresh = begin_run(caches / "other", tmp_path / "fresh", "none").member.train.params
    run = begin_run(caches / "other", tmp_path / "run", tmp_path / "source")
    ours = run.member.train.params
    assert ours["net"]["out"]["Dense_0"]["kernel"].shape == (128, 4)
    assert_equal(ours["net"]["out"], fresh["net"]["out"])
    for name in params["net"].keys() - {"out"}:
        assert_equal(ours["net"][name], params["net"][name])
    assert_equal(ours["controller"], params["controller"])
    source = run_folder.read(tmp_path / "source")
    assert_equal(run.info.frontend.mean, source.frontend.mean)
    assert run.info.class_weights.shape == (4,)
    # Two of four words are unknown here, one of four in `same`: they are not the source's weights.
    assert not np.allclose(run.info.class_weights, source.class_weights[:4])
    out = capsys.readouterr().out
    assert "took over 8 of 9 edges and the controller" in out
    assert "begins anew: out\n" in out
    # What was taken is the run's own from now on.
    shutil.rmtree(tmp_path / "source")
    again = begin_run(caches / "other", tmp_path / "run", tmp_path / "source")
    assert_equal(again.member.train.params, ours)


def test_words_of_other_meaning_begin_anew_though_as_many(caches, tmp_path):
    classes = ("_silence_", "_unknown_", "high", "mid", "low")
    params = write_packed(tmp_path / "source", SMALL, classes)
    run = begin_run(caches / "same", tmp_path / "run", tmp_path / "source")
    kernel = run.member.train.params["net"]["out"]["Dense_0"]["kernel"]
    assert not np.allclose(kernel, params["net"]["out"]["Dense_0"]["kernel"])


def test_controller_of_another_form_begins_anew_with_other_classes(caches, tmp_path, capsys):
    params = write_packed(tmp_path / "source", ModelConfig(maps=(2, 2), state_size=5))
    with pytest.raises(ValueError, match="with another controller"):
        begin_run(caches / "same", tmp_path / "run", tmp_path / "source")
    run = begin_run(caches / "other", tmp_path / "run", tmp_path / "source")
    assert_equal(run.member.train.params["net"]["conv_0"], params["net"]["conv_0"])
    assert "begins anew: out, the controller\n" in capsys.readouterr().out


def test_static_source_gives_the_network_only(caches, tmp_path, capsys):
    write_packed(tmp_path / "source", ModelConfig(maps=(2, 2), state_size=4, static=True))
    fresh = begin_run(caches / "same", tmp_path / "fresh", "none").member.train.params
    run = begin_run(caches / "same", tmp_path / "run", tmp_path / "source")
    assert_equal(run.member.train.params["controller"], fresh["controller"])
    assert "begins anew: the controller\n" in capsys.readouterr().out
    begin_run(caches / "same", tmp_path / "static", tmp_path / "source", "model.static=true")
    assert "begins anew: nothing\n" in capsys.readouterr().out


def test_running_statistics_go_along(caches, tmp_path):
    config = ModelConfig(family="dense-resnet", maps=(3,), depth=1, state_size=4)
    params = write_packed(tmp_path / "source", config)
    # Statistics as they begin are the same for every network: these are told apart.
    params["stats"] = jax.tree.map(lambda x: x + 0.25, params["stats"])
    packed_models.write_params(tmp_path / "source", 120, params)
    settings = ("model.family=dense-resnet", "model.maps=3", "model.depth=1")
    run = begin_run(caches / "other", tmp_path / "run", tmp_path / "source", *settings)
    net = run.member.train.params["net"]
    into_output = {name for name in net if not _equal(net[name], params["net"][name])}
    assert 0 < len(into_output) < len(net)
    for name, stats in run.member.train.params["stats"].items():
        assert _equal(stats, params["stats"][name]) == (name not in into_output)


def _equal(ours, theirs):
    if jax.tree.map(np.shape, ours) != jax.tree.map(np.shape, theirs):
        return False
    return all(map(np.array_equal, jax.tree.leaves(ours), jax.tree.leaves(theirs)))


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (ModelConfig(maps=(2, 3), state_size=4), (), r"into its output \(out\), got .* conv_1$"),
        (
            ModelConfig(maps=(2, 2), state_size=4, shortcuts=False),
            (),
            "with another shortcut_0$",
        ),
        (SMALL, ("data.features=log-mel",), "'data.features': expected 'mfcc' as in"),
        (SMALL, ("data.padding=reflect",), "'data.padding': expected 'constant' as in"),
    ],
)
def test_another_network_is_refused(caches, tmp_path, source, settings, message):
    write_packed(tmp_path / "source", source)
    with pytest.raises(ValueError, match=message):
        begin_run(caches / "other", tmp_path / "run", tmp_path / "source", *settings)
    assert not (tmp_path / "run").exists()


def test_unknown_names_are_refused(caches, tmp_path, monkeypatch):
    monkeypatch.setattr(packed_models, "SHIPPED", tmp_path / "shipped")
    write_packed(tmp_path / "shipped" / "small", SMALL)
    with pytest.raises(ValueError, match="expected one of small; got 'large'"):
        begin_run(caches / "same", tmp_path / "run", "pretrained:large")
    run = begin_run(caches / "same", tmp_path / "run", "pretrained:small")
    assert run.info.config.train.init_from == "pretrained:small"


def test_restore_params_needs_no_training_state(tmp_path):
    """An earlier version's state: other fields and another optimiser around the same parameters."""
    built = write_described(tmp_path / "run", Config(model=SMALL))
    params = init_model(built.model, jax.random.key(3))
    state = {"train": {"step": jnp.int32(4), "params": params, "opt_state": {"mu": jnp.ones(3)}}}
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints.save(4, state)
    checkpoints.close()
    step, found = restore_params(tmp_path / "run", run_folder.read(tmp_path / "run"), built.model)
    assert step == 4
    assert jax.tree.structure(found) == jax.tree.structure(params)
    assert_equal(found, params)
    other = write_described(tmp_path / "other", Config(model=ModelConfig(maps=(2, 2))))
    message = r"could not read it: it has no train/params/controller/\S+ of shape \(100,"
    with pytest.raises(ValueError, match=message):
        restore_params(tmp_path / "run", run_folder.read(tmp_path / "other"), other.model)


def test_restore_params_takes_the_average_where_there_is_one(tmp_path):
    model = ModelConfig(family="dense-resnet", maps=(3,), depth=1, state_size=4)
    config = Config(model=model, train=TrainConfig(average_decay=0.9))
    built = write_described(tmp_path / "run", config)
    member = fresh_member(built, jax.random.key(3))
    average = jax.tree.map(lambda x: x + 1, member.train.params)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    checkpoints.save(4, member._replace(train=member.train._replace(average=average)))
    checkpoints.close()
    _, found = restore_params(tmp_path / "run", run_folder.read(tmp_path / "run"), built.model)
    assert jax.tree.structure(found) == jax.tree.structure(average)
    assert_equal(found, average)
