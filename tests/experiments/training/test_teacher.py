"""Networks that teach another: what they say of a batch is in it, and who cannot teach is told."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import Config, DataConfig, ModelConfig, TrainConfig, load_config, override
from experiments.config.build import build_training
from experiments.config.schema import Hooks
from experiments.datasets.speech import AudioSource
from experiments.evaluation.stream_inference import run_group
from experiments.pack import without_paths
from experiments.runs.trained import read_model
from experiments.training.begin import begin
from experiments.training.extraction import extracted_config
from experiments.training.loop import run_loop
from experiments.training.teacher import FILE, read_teacher
from sanas_jax.data.images import ImageSettings
from sanas_jax.data.mixing import draw_rows
from tests.helpers.packed import write_packed
from tests.helpers.places import CONFIGS
from tests.helpers.toy import CLASSES, write_toy_cache

CONFIG = str(CONFIGS / "kws_debug.py")
SMALL = ModelConfig(maps=(2, 2), state_size=4, static=True)
GATED = ModelConfig(family="separable-gated", state_size=4, maps=(4, 4, 4, 4, 4))
WHOLE = TrainConfig(full_weight=1.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_toy_cache(tmp_path_factory.mktemp("teacher") / "cache")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folders of a static network, one on samples, and one that is told its price."""
    folder = tmp_path_factory.mktemp("teachers")
    told = dataclasses.replace(SMALL, static=False, conditioned=True)
    write_packed(folder / "static", SMALL)
    write_packed(folder / "samples", GATED, data=DataConfig(features="samples"), train=WHOLE)
    write_packed(folder / "told", told, train=WHOLE, seed=8)
    return folder


def settings_of(cache, **data):
    config = Config(model=SMALL, data=DataConfig(cache=str(cache), max_seconds=1.5, **data))
    return build_training(config, len(CLASSES), Hooks()).settings


@pytest.mark.parametrize("names", [("static",), ("samples",), ("told",), ("static", "samples")])
def test_a_batch_brings_what_teachers_say_of_its_signals(cache, teachers, names):
    settings = settings_of(cache, time_masks=2, frequency_masks=2)
    data = AudioSource(DataConfig(cache=str(cache)))
    teacher, _ = read_teacher([str(teachers / name) for name in names], data.classes, settings)
    frontend = read_model(teachers / "static").info.frontend
    key, rows = jax.random.key(3), jnp.arange(4)
    args = (data.training, frontend, settings, key, rows)
    draw = jax.jit(AudioSource.draw, static_argnums=2)
    batch, alone = draw(*args, None, teacher), draw(*args)
    assert alone.taught is None
    # Programs of their own, so features may end in another bit.
    for ours, plain in zip(batch[:4], alone[:4], strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)
    signals = np.asarray(draw_rows(data.training, settings, key, rows).signal)
    said = []
    for name in names:
        model = read_model(teachers / name).as_static()
        own = [(model.params, model.info.frontend)]
        heard = run_group(model.sanas, True, own, [1.0], list(signals)).posteriors
        said.append(np.stack(heard[0][0], 1))
    assert batch.taught.shape == (*batch.labels.shape, len(CLASSES))
    heard = np.log(batch.taught)
    np.testing.assert_allclose(heard, np.log(np.mean(said, 0)), rtol=1e-4, atol=1e-4)
    assert np.ptp(heard, axis=(0, 1)).max() > 0.01, "signals are told apart"


def test_who_cannot_teach_is_told(cache, teachers, tmp_path):
    settings = settings_of(cache)

    def refused(expected, *references, settings=settings):
        with pytest.raises(ValueError, match=rf"config field 'train.teacher': .*{expected}"):
            read_teacher([str(reference) for reference in references], CLASSES, settings)

    write_packed(tmp_path / "other", SMALL, classes=["_silence_", "_unknown_", "yes", "no"])
    refused(r"the data's classes .* got .*other on _silence_, ", tmp_path / "other")
    write_packed(tmp_path / "slow", dataclasses.replace(SMALL, hop=40))
    expected = r"windows of 16480 samples every 3200 at 16000 Hz, got .*slow of 16480 every 6400"
    refused(expected, teachers / "static", tmp_path / "slow")
    write_packed(tmp_path / "parts", dataclasses.replace(SMALL, static=False))
    refused(r"learnt with everything on .* got .*parts, which did not", tmp_path / "parts")
    refused("audio, got images", teachers / "static", settings=ImageSettings())
    refused("nowhere", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"train.teacher_weight': expected more than 0"):
        train(cache, tmp_path / "x", f"train.teacher={teachers / 'told'}", "train.teacher_weight=0")
    config = override(load_config(str(CONFIGS / "bsn_digits.py"))[0], ["train.teacher=a"])
    with (
        pytest.raises(ValueError, match="audio, got images"),
        begin([config], [tmp_path / "x"], None),
    ):
        pass
    assert not (tmp_path / "x").exists()


def train(cache, workdir, *settings):
    """Parameters of a run of four steps."""
    config, _ = load_config(CONFIG)
    fields = (f"data.cache={cache}", "model.static=true", "train.steps=4")
    every = ("train.log_every=2", "train.eval_every=2", "train.batch_size=4")
    config = override(config, [*fields, *every, *settings])
    with begin([config], [workdir], CONFIG) as job:
        (run,) = run_loop(job)
    return jax.tree.leaves(jax.device_get(run.member.train.params))


def test_a_run_learns_from_its_teacher_and_goes_on_with_no_other(cache, teachers, tmp_path):
    shutil.copytree(teachers / "static", tmp_path / "one")
    taught = f"train.teacher={tmp_path / 'one'}", "train.teacher_weight=1"
    alone, with_it = train(cache, tmp_path / "alone"), train(cache, tmp_path / "with", *taught)
    assert max(abs(a - b).max() for a, b in zip(alone, with_it, strict=True)) > 1e-3
    assert not (tmp_path / "alone" / FILE).exists()
    shutil.rmtree(tmp_path / "with" / "checkpoints" / "4")
    shutil.move(tmp_path / "one", tmp_path / "two")  # wherever it lies
    moved = f"train.teacher={tmp_path / 'two'}", taught[1]
    for a, b in zip(train(cache, tmp_path / "with", *moved), with_it, strict=True):
        np.testing.assert_array_equal(a, b)
    shutil.move(tmp_path / "two", tmp_path / "one")
    with pytest.raises(ValueError, match=r"train.teacher: .* → \[\]"):
        train(cache, tmp_path / "with")
    write_packed(tmp_path / "one", SMALL, seed=9)
    with pytest.raises(ValueError, match=r"teacher.json: .* as it was when the run began"):
        train(cache, tmp_path / "with", *taught)
    (tmp_path / "with" / FILE).unlink()
    with pytest.raises(ValueError, match=r"teacher.json"):
        train(cache, tmp_path / "with", *taught)
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(ValueError, match=r"config field 'train.teacher': .*one"):
        train(cache, tmp_path / "with", *taught)


def test_what_is_packed_or_extracted_has_no_path_of_a_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = [f"train.teacher={tmp_path}/a/, b,pretrained:kws,."]
    config = override(Config(), fields)
    assert config.train.teacher == (f"{tmp_path}/a/", "b", "pretrained:kws", ".")
    packed = without_paths(config).train.teacher
    assert packed == ("a", "b", "pretrained:kws", tmp_path.name)
    assert extracted_config(config, ["a"], 3).train.teacher == ()


def test_a_hash_is_of_all_that_a_teacher_says(teachers, tmp_path):
    settings = settings_of("unread")

    def digest(folder):
        return read_teacher([str(folder)], CLASSES, settings)[1]

    shutil.copytree(teachers / "static", tmp_path / "moved")
    assert digest(tmp_path / "moved") == digest(teachers / "static")
    same, _ = read_teacher([str(tmp_path / "moved")], CLASSES, settings)
    one, _ = read_teacher([str(teachers / "static")], CLASSES, settings)
    assert jax.tree.structure(same) == jax.tree.structure(one), "one program for both"
    frontend = dict(np.load(tmp_path / "moved" / "frontend.npz"))
    np.savez(tmp_path / "moved" / "frontend.npz", **frontend | {"mean": frontend["mean"] + 1})
    assert digest(tmp_path / "moved") != digest(teachers / "static")
    assert digest(teachers / "told") != digest(teachers / "static")
