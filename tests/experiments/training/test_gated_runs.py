"""Runs of a network with its front end under the gates: from features, trained, evaluated."""

import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import Config, DataConfig, ModelConfig, load_config, override
from experiments.config.build import build_training
from experiments.config.model import build_model
from experiments.config.schema import Hooks
from experiments.evaluation import stream_inference
from experiments.evaluation.stream_inference import run_group
from experiments.evaluation.streams import stream_summary
from experiments.live.listening import describe
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.stored_results import StreamResult
from experiments.runs.trained import model_of, read_model
from experiments.training.begin import begin
from experiments.training.init_from import _without_more
from experiments.training.loop import run_loop
from sanas_jax import gates, spaces
from sanas_jax.data.features import extract
from sanas_jax.rollout import init_carry, unroll
from tests.helpers.nets_in_c import front_of, gated, noise
from tests.helpers.nets_in_c import model_of as small_model_of
from tests.helpers.packed import write_packed
from tests.helpers.places import CONFIGS
from tests.helpers.toy import CLASSES, write_toy_cache

CONFIG = str(CONFIGS / "kws_debug.py")
SMALL = ModelConfig(family="separable", maps=(3, 4, 4, 4, 4), state_size=4)
GATED = ("model.family=separable-gated", "model.maps=3,4,4,4,4", "model.state_size=4")
GATED += ("data.features=samples", "data.max_seconds=1.2")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_toy_cache(tmp_path_factory.mktemp("gated") / "cache", max_hz=7600)


def config_of(cache, *settings):
    config, _ = load_config(CONFIG)
    return override(config, (*GATED, f"data.cache={cache}", "model.max_hz=7600", *settings))


def begun(config, workdir):
    with begin([config], [workdir], CONFIG) as job:
        return job.built, job.runs[0]


def answers(model, params, frontend, signal, forced):
    rows = extract(frontend, signal)[None, ..., None]
    carry = init_carry(model, 1, None, params["stats"])
    every = jnp.broadcast_to(forced, (model.num_steps(rows.shape[1]), 1, len(forced)))
    return unroll(model, params, carry, rows, jax.random.key(0), gates=every)[1]


def test_a_network_on_log_mel_goes_on_and_says_the_same(cache, tmp_path, capsys):
    data = DataConfig(features="log-mel")
    theirs = write_packed(tmp_path / "source", SMALL, data=data, max_hz=7600)
    config = config_of(cache, f"train.init_from={tmp_path / 'source'}", "model.gate_bias=0.5")
    built, run = begun(config, tmp_path / "run")
    assert "begins anew: exit_sound, onset\n" in capsys.readouterr().out
    net, source = built.model.net, run_folder.read(tmp_path / "source")
    ours, plain = run.member.train.params, model_of(source)
    assert run.info.frontend.raw
    np.testing.assert_array_equal(ours["stats"]["mel"]["mean"], source.frontend.mean)
    np.testing.assert_array_equal(
        ours["controller"]["head"]["bias"], theirs["controller"]["head"]["bias"]
    )
    signal = 0.1 * jax.random.normal(jax.random.key(1), (24_000,))
    got = answers(built.model, ours, run.info.frontend, signal, jnp.ones(len(net.edges)))
    whole = jnp.ones(len(plain.net.edges))
    expected = answers(plain, theirs, source.frontend, signal, whole)
    np.testing.assert_allclose(got.logits, expected.logits, atol=1e-5)


@pytest.mark.slow
def test_it_is_trained_and_evaluated_as_any(cache, tmp_path):
    config = config_of(cache)
    with begin([config], [tmp_path / "run"], CONFIG) as job:
        before = jax.tree.map(np.array, job.runs[0].member.train.params["stats"]["mel"])
        assert np.abs(before["mean"]).min() > 0.1  # fitted to the data
        run_loop(job)
    model = read_model(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, model.params["stats"]["mel"], before)
    signal = np.array(0.1 * jax.random.normal(jax.random.key(1), (50_000,)), np.float32)
    own = [(model.params, model.info.frontend)]
    out = run_group(model.sanas, False, own, [1.0], [signal])
    rows = extract(model.info.frontend, jnp.asarray(signal))[None, ..., None]
    carry = init_carry(model.sanas, 1, None, model.params["stats"])
    key = jax.random.key(0)
    _, expected = unroll(model.sanas, model.params, carry, rows, key, policy=gates.mode)
    posteriors = jax.nn.softmax(expected.logits[:, 0])
    np.testing.assert_allclose(out.posteriors[0][0][0], posteriors, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("data.features=log-mel",),
            "'data.features': expected 'samples', which 'separable-gated' hears, got 'log-mel'",
        ),
        (
            ("model.family=separable",),
            "'data.features': expected 'mfcc' or 'log-mel' for 'separable', got 'samples'",
        ),
        (
            ("model.family=separable", "data.features=log-mel"),
            "'model.max_hz': expected 4000 for 'separable', which makes no mel bands .* got 7600",
        ),
        (
            ("data.cache=digits",),
            r"'model.family': 'separable-gated' expects audio, got images of shape \(8, 8, 1\)",
        ),
        (("data.time_masks=2",), "'data.features': samples are not masked, nor rounded"),
        (("train.precision=bfloat16",), "'data.features': samples are not masked, nor rounded"),
        (("model.max_hz=4000",), "'model.max_hz': expected 7600, where the mel bands .* got 4000"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(cache, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        begun(config_of(cache, *settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_windows_of_labels_are_those_of_frames():
    config = override(Config(), GATED)
    settings = build_training(config, len(CLASSES), Hooks()).settings
    assert settings.window == 101 == build_model(config, 5, Hooks()).window - 2


def test_a_source_of_other_bands_is_refused(cache, tmp_path):
    write_packed(tmp_path / "source", SMALL, data=DataConfig(features="log-mel"), max_hz=4000)
    config = config_of(cache, f"train.init_from={tmp_path / 'source'}")
    with pytest.raises(ValueError, match="init_from: edge 'mel': expected the mel bands of the"):
        begun(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bands_are_those_of_the_source_whatever_the_cache_has(tmp_path):
    write_packed(tmp_path / "source", SMALL, data=DataConfig(features="log-mel"), max_hz=7600)
    low = write_toy_cache(tmp_path / "low")
    config = config_of(low, f"train.init_from={tmp_path / 'source'}")
    _, run = begun(config, tmp_path / "run")
    _, again = begun(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again.member, run.member)


def test_a_gated_source_of_other_bands_is_refused_before_anything_is_written(cache, tmp_path):
    with begin([config_of(cache)], [tmp_path / "source"], CONFIG) as job:
        run = job.runs[0]
        checkpoints = Checkpoints(run.workdir / "checkpoints")
        checkpoints.save(1, run.member)
        checkpoints.close()
    low = write_toy_cache(tmp_path / "low")
    config = config_of(low, f"train.init_from={tmp_path / 'source'}", "model.max_hz=4000")
    with pytest.raises(ValueError, match=r"init_from: edge 'mel': .* got others, up to 4000 Hz"):
        begun(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_without_statistics_may_have_more_edges():
    fewer, net = spaces.separable(), gated()
    like = {"net": {edge.name: {} for edge in net.edges}}
    left = _without_more(like, fewer, net)
    assert not {"mel", "energy", "onset", "exit_sound"} & left["net"].keys()
    assert not left["stats"]


def test_streams_in_chunks_are_those_of_unroll(monkeypatch):
    monkeypatch.setattr(stream_inference, "CHUNK_STEPS", 16)
    model, params = small_model_of(gated())
    front, samples = front_of(model.net), noise().astype(np.float32) / 32768
    out = run_group(model, False, [(params, front)], [0.5], [samples])
    rows = extract(front, jnp.asarray(samples))[None, ..., None]
    carry = init_carry(model, 1, 0.5, params["stats"])
    _, expected = unroll(model, params, carry, rows, jax.random.key(0), policy=gates.mode)
    assert len(expected.logits) > 2 * 16
    posteriors = jax.nn.softmax(expected.logits[:, 0])
    np.testing.assert_allclose(out.posteriors[0][0][0], posteriors, atol=1e-5)
    np.testing.assert_array_equal(out.live[0][0][0], expected.live[:, 0])


def test_ledgers_say_that_the_front_end_is_among_the_edges():
    summary = defaultdict(int, model="gated", engine="native", full_macs_per_frame=1)
    names = ("suffix", *(field.name for field in dataclasses.fields(StreamResult)))
    result = SimpleNamespace(**dict.fromkeys(names, 0) | {"full_macs_per_frame": 1})
    for words in (describe(summary), stream_summary(result)):
        assert "the front end is among the edges" in words
        assert "the front end 0.000M" not in words
