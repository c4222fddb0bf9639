"""Networks that teach another: what they say of a batch is in it, and who cannot teach is told."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import Config, DataConfig, ModelConfig, load_config, override
from experiments.config.build import build_training
from experiments.config.schema import Hooks
from experiments.datasets.speech import AudioSource
from experiments.evaluation.stream_inference import run_group
from experiments.runs.trained import read_model
from experiments.training.begin import begin
from experiments.training.loop import run_loop
from experiments.training.teacher import read_teacher
from sanas_jax.data.images import ImageSettings
from sanas_jax.data.mixing import draw_rows
from tests.helpers.packed import write_conditioned_run, write_packed
from tests.helpers.places import CONFIGS
from tests.helpers.toy import CLASSES, write_toy_cache

CONFIG = str(CONFIGS / "kws_debug.py")
SMALL = ModelConfig(maps=(2, 2), state_size=4, static=True)
GATED = ModelConfig(family="separable-gated", state_size=4, maps=(4, 4, 4, 4, 4))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_toy_cache(tmp_path_factory.mktemp("teacher") / "cache")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folders of a static network, one on samples, and one that is told its price."""
    folder = tmp_path_factory.mktemp("teachers")
    write_packed(folder / "static", SMALL)
    write_packed(folder / "samples", GATED, data=DataConfig(features="samples"))
    write_conditioned_run(folder / "told")
    return folder


def settings_of(cache, **data):
    config = Config(model=SMALL, data=DataConfig(cache=str(cache), max_seconds=1.5, **data))
    return build_training(config, len(CLASSES), Hooks()).settings


@pytest.mark.parametrize("names", [("static",), ("samples",), ("told",), ("static", "samples")])
def test_a_batch_brings_what_teachers_say_of_its_signals(cache, teachers, names):
    references = ",".join(str(teachers / name) for name in names)
    settings = settings_of(cache, time_masks=2, frequency_masks=2)
    data = AudioSource(DataConfig(cache=str(cache)))
    teacher = read_teacher(references, data.classes, settings)
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
    write_packed(tmp_path / "other", SMALL, classes=["_silence_", "_unknown_", "yes", "no"])
    with pytest.raises(ValueError, match=r"train.teacher.*data's classes .* got .*other on _sil"):
        read_teacher(str(tmp_path / "other"), CLASSES, settings)
    write_packed(tmp_path / "slow", dataclasses.replace(SMALL, hop=40))
    with pytest.raises(
        ValueError,
        match=r"windows of 16160 samples every 3200 at 16000 Hz, got .*"
        r"slow of 16160 every 6400",
    ):
        read_teacher(f"{teachers / 'static'},{tmp_path / 'slow'}", CLASSES, settings)
    with pytest.raises(ValueError, match=r"train.teacher.*speech, got images"):
        read_teacher(str(teachers / "static"), CLASSES, ImageSettings())
    with pytest.raises(ValueError, match="nowhere"):
        read_teacher(str(tmp_path / "nowhere"), CLASSES, settings)


def test_a_run_learns_from_its_teacher_and_needs_it_to_go_on(cache, teachers, tmp_path):
    def train(name, *settings):
        config, _ = load_config(CONFIG)
        fields = (f"data.cache={cache}", "model.static=true", "train.steps=4")
        every = ("train.log_every=2", "train.eval_every=2", "train.batch_size=4")
        config = override(config, [*fields, *every, *settings])
        with begin([config], [tmp_path / name], CONFIG) as job:
            (run,) = run_loop(job)
        return jax.tree.leaves(jax.device_get(run.member.train.params))

    taught = f"train.teacher={teachers / 'static'}", "train.teacher_weight=1"
    alone, with_it = train("alone"), train("with", *taught)
    assert max(abs(a - b).max() for a, b in zip(alone, with_it, strict=True)) > 1e-3
    with pytest.raises(ValueError, match=r"train.teacher: .* → None"):
        train("with")
    shutil.rmtree(tmp_path / "with" / "checkpoints" / "4")
    for a, b in zip(train("with", *taught), with_it, strict=True):
        np.testing.assert_array_equal(a, b)
