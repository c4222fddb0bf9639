"""What ours is compared with computes the same: librosa, NumPy, PyTorch."""

import dataclasses
import sys

import jax
import numpy as np
import pytest
import soundfile

from experiments.benchmarks import (
    augmentation,
    convolutions,
    dispatch,
    engines,
    features,
    streaming,
)
from experiments.benchmarks.decisions import subjects
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import relative_error
from experiments.benchmarks.peers import numpy_mix, pytorch
from experiments.machine.compiler import NoCompilerError, find_compiler
from sanas_jax.data.mixing import draw_batch
from sanas_jax.spaces import kws_cnn

QUICK = Settings(1, 1, quick=True)


@pytest.fixture(scope="module")
def streams():
    """The recipe, clips, and a batch of ours with its key."""
    recipe, clips, key = augmentation.kws_modern(), augmentation.random_clips(), jax.random.key(3)
    ours = jax.jit(draw_batch, static_argnums=(1, 3))(clips, recipe, key, 12)
    return recipe, numpy_mix.host_clips(clips), key, ours


def test_numpy_mixes_the_same_streams(streams):
    recipe, host, key, ours = streams
    errors = augmentation.compare_streams(host, recipe, key, 12, ours)
    assert errors["signals"] < augmentation.TOLERANCE
    assert errors["labels"] == 0
    assert len(np.unique(ours.labels)) > 3


@pytest.mark.parametrize(
    "change", [{"max_noise_gain": 0.2}, {"gain_range": (0.5, 1.6)}, {"cut_words": False}]
)
def test_another_recipe_is_noticed(streams, change):
    recipe, host, key, ours = streams
    other = dataclasses.replace(recipe, **change)
    errors = augmentation.compare_streams(host, other, key, 12, ours)
    assert max(errors.values()) > augmentation.TOLERANCE


def test_numpy_draws_whole_batches(streams):
    recipe, host, _, ours = streams
    rng = np.random.default_rng(0)
    signals, labels, weights = numpy_mix.draw_batch(host, recipe, rng, 12)
    assert signals.shape == ours.signal.shape
    assert labels.shape == weights.shape == ours.labels.shape
    assert len(np.unique(labels)) > 3
    assert not np.array_equal(signals[0], signals[1])


@pytest.mark.parametrize(
    "change", [{"snr_range_db": (0, 45)}, {"white_noise": 0.5}, {"min_seconds": 2.0}]
)
def test_numpy_refuses_what_it_does_not_mix(change):
    with pytest.raises(ValueError, match="recipe: expected"):
        numpy_mix.check(dataclasses.replace(augmentation.kws_modern(), **change))


@pytest.mark.slow  # librosa's first call compiles for half a minute
def test_features_are_librosas(monkeypatch):
    monkeypatch.setattr(features, "QUICK_SIGNALS", 2)
    result = features.benchmark(QUICK)
    assert set(result["agreement"]) == {"ours", "rfft", "frames, matmul"}
    assert max(result["agreement"].values()) < features.TOLERANCE
    assert {"librosa", "librosa, one by one"} <= set(result["rows"])


def test_convolutions_are_pytorchs():
    pytest.importorskip("torch")
    peer = pytorch.import_torch(QUICK, [])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 12, 6, 3)).astype(np.float32)
    kernel = rng.standard_normal((4, 2, 3, 5)).astype(np.float32)
    upstream = rng.standard_normal((2, 9, 5, 5)).astype(np.float32)
    theirs = convolutions.torch_products(peer, x, kernel, upstream)
    ours = convolutions.products(first=False)
    assert list(theirs) == list(ours)
    for name, form in ours.items():
        assert relative_error(np.asarray(form(x, kernel, upstream)), theirs[name]()) < 1e-5


def test_dispatch_leaves_jax_as_it_was(monkeypatch):
    monkeypatch.setattr(dispatch, "clear_backends", lambda: None)  # other tests hold arrays
    monkeypatch.setattr(dispatch, "QUICK_CALLS", 20)
    before = jax.config.read("jax_cpu_enable_async_dispatch")
    result = dispatch.benchmark(QUICK)
    assert jax.config.read("jax_cpu_enable_async_dispatch") == before
    assert list(result["rows"]) == list(dispatch.WAYS)
    assert all(1e-7 < row["seconds"] < 0.1 for row in result["rows"].values())


def test_architectures_of_a_network():
    found = subjects.architectures(kws_cnn(maps=(2, 3)))
    assert list(found) == ["everything", "half", "cheapest"]  # which is that near a tenth, too
    assert found["everything"].all()
    sizes = [live.sum() for live in found.values()]
    assert sizes[-1] == 2  # a shortcut from the input, and the classifier
    assert list(subjects.architectures(kws_cnn(maps=(2, 3)), quick=True)) == [
        "everything",
        "cheapest",
    ]


def test_a_decision_reads_the_weights_of_live_edges(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # ours is enough here
    subject = subjects.paper(QUICK, [])
    controller = sum(leaf.size for leaf in jax.tree.leaves(subject.params["controller"]))
    total = sum(leaf.size for leaf in jax.tree.leaves(subject.params["net"])) + controller
    edges = len(subject.model.net.edges)
    assert subject.weights_bytes(np.ones(edges, np.float32)) == 4 * total
    assert subject.weights_bytes(np.zeros((3, edges), np.float32)) == 4 * controller


@pytest.mark.slow
def test_streaming_without_torch_times_ours(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(streaming, "prepare_streaming", lambda: None)
    result = streaming.benchmark(QUICK, steps=2, models=())
    assert list(result["rows"]) == [
        f"kws_paper, {name}{side}" for name in ("everything", "cheapest") for side in ("", ", own")
    ]
    assert max(result["agreement"].values()) < streaming.TOLERANCE
    text = streaming.table(result)
    assert "left out: PyTorch, which is not installed: pip install torch" in text


@pytest.mark.slow
def test_engines_hear_the_same(monkeypatch, tmp_path):
    try:
        find_compiler()
    except NoCompilerError as missing:
        pytest.skip(str(missing))
    monkeypatch.setattr(engines, "prepare_streaming", lambda: None)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000 * 3)
    soundfile.write(tmp_path / "s.wav", noise, 16_000)
    result = engines.benchmark(QUICK, tmp_path / "s.wav", steps=4, prices=(0.1, 1.0), plain=True)
    for told in ("λ = 0.1", "λ = 1", "everything on"):
        sides = ("xla", "native", "native call", "NumPy", "numba")
        assert {f"{told}, {name}" for name in sides} <= set(result["rows"])
    assert max(result["agreement"].values()) < engines.TOLERANCE
    with pytest.raises(ValueError, match="--stream: expected 81 s at 16000 Hz, got 3 s"):
        engines.benchmark(QUICK, tmp_path / "s.wav", steps=400)


@pytest.mark.slow
def test_streaming_sides_agree(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(streaming, "prepare_streaming", lambda: None)
    result = streaming.benchmark(QUICK, steps=2)
    names = [name for name in result["rows"] if name.endswith(f", {pytorch.EAGER}")]
    assert len(names) == 4  # two networks, two architectures
    assert max(result["agreement"].values()) < streaming.TOLERANCE
    full = result["rows"]["kws, everything"]
    cheap = result["rows"]["kws, cheapest"]
    assert cheap["macs"] < full["macs"] < full["window_macs"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--device=default", "--device: expected cpu"),
        ("--stream=/no/such/file.wav", "--stream: expected a file"),
        ("--cost_weights=cheap", "cheap"),
    ],
)
def test_streaming_bad_input_is_one_line(capsys, argument, message):
    assert streaming.main(["prog", "--quick", argument]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
