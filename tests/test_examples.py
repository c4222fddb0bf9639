"""The examples of examples/ that need no exported model."""

import hashlib
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import override
from experiments.configs import kws_modern
from experiments.training.begin import begin
from experiments.training.loop import run_loop
from sanas_jax.rollout import Sanas
from tests.helpers.places import CONFIGS, ROOT
from tests.helpers.toy import write_toy_cache


def read(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["own_network", "own_cost"])
def test_an_example_fits_a_page(name):
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static", "stream"])
def test_own_network_buys_less_at_a_higher_price(name):
    train = getattr(read("own_network"), name)
    free, dear = jax.jit(jax.vmap(train))(jnp.array([0.0, 3.0]))
    assert free > 0.9, "what costs nothing is used"
    assert dear < 0.2, "waves are not worth it"


@pytest.mark.parametrize("name", ["static", "stream"])
def test_own_network_is_traced_for_many_prices(name):
    train = getattr(read("own_network"), name)
    assert jax.eval_shape(jax.vmap(train), jnp.ones(3)).shape == (3,)


def test_own_cost_charges_shares():
    example = read("own_cost")
    shares = example.charge(jax.random.key(0))
    assert set(shares) == set(example.COSTS)
    on, off = jnp.ones(len(example.NET.edges)), jnp.zeros(len(example.NET.edges))
    for name, cost in example.SHARES.items():
        assert shares[name].shape == (8,)
        assert ((shares[name] >= 0) & (shares[name] <= 1)).all(), name
        assert cost(on) == pytest.approx(1, rel=1e-6)
        assert cost(off) == 0


def write_embedding(folder, monkeypatch):
    """A package with models of the published shapes and random weights."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    models = folder / "openwakeword" / "resources" / "models"
    models.mkdir(parents=True)
    (folder / "openwakeword" / "__init__.py").touch()

    def write(file, operators):
        nodes, arrays = [], []
        for i, (kind, shapes) in enumerate(operators):
            names = [f"{kind}_{i}_{k}" for k in range(len(shapes))]
            for name, shape in zip(names, shapes, strict=True):
                fan_in = max(np.prod(shape[1:]), 1)
                values = np.abs(rng.standard_normal(shape)) if kind != "Conv" else 0
                values = values if kind != "Conv" else rng.standard_normal(shape) / fan_in**0.5
                arrays.append(onnx.numpy_helper.from_array(np.float32(values), name))
            nodes.append(onnx.helper.make_node(kind, [f"x{i}", *names], [f"x{i + 1}"]))
        graph = onnx.helper.make_graph(nodes, file, [], [], arrays)
        onnx.save(onnx.helper.make_model(graph), models / f"{file}.onnx")

    write("melspectrogram", [("Conv", [(257, 1, 512)])] * 2 + [("MatMul", [(257, 32)])])
    operators = [("Conv", [(24, 1, 3, 3)]), ("BatchNormalization", [(24,)] * 4)]
    before = 24
    for channels, count in ((24, 2), (48, 4), (72, 4), (96, 4), (96, 4)):
        for i in range(count):
            kernel = (channels, before, *((3, 1) if i % 2 else (1, 3)))
            operators.append(("Conv", [kernel, (channels,)]))
            before = channels
    write("embedding_model", [*operators, ("Conv", [(96, 96, 3, 1)])])
    monkeypatch.syspath_prepend(folder)
    return {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in models.iterdir()}


def test_speech_embedding_begins_with_what_is_published(tmp_path, monkeypatch):
    example = read("speech_embedding")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match=r"expected the package openwakeword 0.4.0"):
            example.published("embedding_model")
    hashes = write_embedding(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"expected that of openwakeword 0.4.0, got another"):
        example.published("embedding_model")
    monkeypatch.setattr(example, "SHA256", hashes)
    net = example.build_net(None, 5)
    assert net.shapes["embeddings"] == (4, 96)
    model = Sanas(net)
    assert model.window == 103
    block = net.edges[0].block
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 103, 160, 1)) / 10, jnp.float32)
    variables = block.init(jax.random.key(0), x)
    (_, _, *convolutions) = example.published("embedding_model")
    for i, (kernel, *bias) in enumerate(convolutions):
        np.testing.assert_array_equal(
            variables["params"][f"kernel_{i}"], kernel.transpose(2, 3, 1, 0)
        )
        for array in bias:
            np.testing.assert_array_equal(variables["params"][f"bias_{i}"], array)
    # Bands by a plain transform of each frame.
    (real,), (imaginary,), (mel,) = example.published("melspectrogram")
    samples = np.asarray(x).reshape(2, -1) * 2.0**15
    frames = np.stack([samples[:, 160 * i : 160 * i + 512] for i in range(100)], 1)
    power = (frames @ real[:, 0].T) ** 2 + (frames @ imaginary[:, 0].T) ** 2
    bands = 10 * np.log10(power @ mel)
    np.testing.assert_allclose(example.decibels(x[..., 0]), bands, rtol=1e-4, atol=1e-3)
    # The first stages are left as they are.
    grads = jax.grad(lambda v: block.apply(v, x).sum())(variables)["params"]
    moved = {name for name, grad in grads.items() if np.abs(grad).max() > 0}
    assert moved == {
        f"{kind}_{i}" for i in range(6, 19) for kind in ("kernel", "bias")[: 1 if i == 18 else 2]
    }
    # MACs are those of XLA's convolutions.
    counted = jax.jit(lambda v, h: block.apply(v, h)).lower(variables, x[:1]).cost_analysis()
    assert 2 * block.macs((103, 160, 1)) == pytest.approx(counted["flops"], rel=0.08)


@pytest.mark.slow
def test_speech_embedding_trains_and_teaches(tmp_path, monkeypatch):
    example, known = tmp_path / "example.py", read("speech_embedding").SHA256
    text = (ROOT / "examples" / "speech_embedding.py").read_text(encoding="utf-8")
    for name, sha256 in write_embedding(tmp_path, monkeypatch).items():
        text = text.replace(known[name], sha256)
    example.write_text(text, encoding="utf-8")
    cache = write_toy_cache(tmp_path / "cache")
    few = (f"data.cache={cache}", "train.steps=2", "train.log_every=2", "train.eval_every=2")
    few = (*few, "train.eval_batches=1", "train.batch_size=4")
    teacher = override(read("speech_embedding").get_config(), few)
    with begin([teacher], [tmp_path / "teacher"], str(example)) as job:
        run_loop(job)
    pupil = CONFIGS / "kws_modern.py"
    config = override(kws_modern.get_config(), (*few, f"train.teacher={tmp_path / 'teacher'}"))
    with pytest.raises(ValueError, match=r"--trust"), begin([config], [tmp_path / "x"], None):
        pass
    with begin([config], [tmp_path / "pupil"], str(pupil), trust=True) as job:
        (run,) = run_loop(job)
    assert run.step == 2
