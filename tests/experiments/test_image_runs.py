"""BSN as a user meets it: launch, resume, sweep, evaluate and extract on images."""

import json
import re
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_prep import prepare_images
from data_prep.command.cli import run
from experiments import evaluate, extract, launch, sweep
from experiments.runs import folder as run_folder
from experiments.runs.metrics import read_metrics
from experiments.runs.trained import found_architecture, read_model
from sanas_jax import costs
from sanas_jax.forward import forward
from tests.helpers.places import CONFIGS
from tests.helpers.runs_state import final_state

CONFIG = str(CONFIGS / "bsn_digits.py")
SETTINGS = [
    "model.depth=2",
    "model.maps=4",
    "train.steps=4",
    "train.batch_size=16",
    "train.log_every=2",
    "train.eval_every=2",
    "train.controller_delay_steps=0",
    "train.report_costs=params,parallel,memory",
    "train.workers=2",
]

# Whole runs of several networks; what they are made of is held by faster tests.
pytestmark = pytest.mark.slow


def command(module, *arguments):
    return run(module.define_flags, module.main, "", [module.__name__, *map(str, arguments)])


def launched(folder, *settings, module=launch, extra=()):
    chosen = [f"--set={setting}" for setting in (*SETTINGS, *settings)]
    return command(module, f"--config={CONFIG}", f"--workdir={folder}", *chosen, *extra)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "bsn"
    assert launched(folder) == 0
    return folder


def result_of(folder):
    assert command(evaluate, f"--workdir={folder}") == 0
    return json.loads((folder / "evaluations" / "testing.json").read_text())


def test_a_run_leaves_what_runs_leave(trained):
    lines = list(read_metrics(trained))
    assert [(line["step"], line["split"]) for line in lines][-1] == (4, "validation")
    assert set(lines[0]["gate_usage"]) == set(result_of(trained)["probability"])
    assert {"cost_params", "cost_parallel", "cost_memory", "charged"} <= set(lines[0])
    info = run_folder.read(trained)
    assert info.input_shape == (8, 8, 1)
    assert len(info.classes) == 10


@pytest.mark.slow
def test_resumed_equals_uninterrupted(trained, tmp_path):
    folder = tmp_path / "run"
    assert launched(folder, "train.steps=4") == 0
    for step in (folder / "checkpoints").iterdir():
        if step.name == "4":
            for path in sorted(step.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            step.rmdir()
    assert launched(folder) == 0
    one, other = final_state(trained), final_state(folder)
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_extracted_network_computes_the_same_for_less(trained, tmp_path):
    out = tmp_path / "small"
    assert command(extract, f"--workdir={trained}", f"--out={out}", "--sample=1") == 0
    model, own = read_model(trained), read_model(out)
    params, kept = model.params, own.params
    _, live = found_architecture(model.sanas, params, static=False, key=jax.random.key(1))
    assert 0 < live.sum() < len(live)
    x = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    masked = forward(model.sanas.net, params["net"], live, x, stats=params["stats"])
    alone = forward(own.sanas.net, kept["net"], jnp.ones(int(live.sum())), x, stats=kept["stats"])
    np.testing.assert_allclose(alone.logits, masked.logits, rtol=1e-5, atol=1e-6)
    result = result_of(out)
    assert result["costs"] == result["full_costs"]
    for name, cost in (("macs", costs.macs), ("params", costs.params), ("memory", costs.memory)):
        assert result["costs"][name] == float(cost(model.sanas.net)(live))
    assert result["costs"]["params"] == sum(p.size for p in jax.tree.leaves(kept["net"]))


@pytest.mark.slow
def test_extracted_network_trains_on(trained, tmp_path):
    masked, out = result_of(trained), tmp_path / "mode"
    assert command(extract, f"--workdir={trained}", f"--out={out}") == 0
    assert result_of(out)["accuracy_pct"] == masked["accuracy_pct"]
    more = tmp_path / "more"
    assert command(extract, f"--workdir={trained}", f"--out={more}", "--steps=2") == 0
    assert [line["step"] for line in read_metrics(more)][-1] == 2


@pytest.mark.slow
def test_sweep_of_another_cost(tmp_path, capsys):
    folder = tmp_path / "sweep"
    budgets = ["--budgets=50%,9"]
    assert launched(folder, "train.cost=parallel", module=sweep, extra=budgets) == 0
    out = capsys.readouterr().out
    assert "reached (steps on 2 workers)" in out
    assert run_folder.read_sweep(folder) == ["budget_0.5", "budget_9"]
    assert command(evaluate, f"--workdir={folder}") == 0
    result = json.loads((folder / "budget_9" / "evaluations" / "testing.json").read_text())
    assert result["budget"] == 9
    assert result["unit"] == "steps on 2 workers"
    half = json.loads((folder / "budget_0.5" / "evaluations" / "testing.json").read_text())
    assert half["budget"] == half["full_charged"] / 2


def test_bad_input_is_one_line(trained, tmp_path, capsys):
    cases = [
        (lambda: launched(tmp_path / "a", "train.budget=2"), "budget: expected from"),
        (lambda: launched(tmp_path / "b", "train.cost=joules"), "train.cost.*expected one of"),
        (lambda: launched(tmp_path / "c", "model.maps=4,5"), "model.maps.*one number"),
        (lambda: launched(tmp_path / "d", "model.family=fabrics"), "model.family"),
        (lambda: command(evaluate, f"--workdir={trained}", "--stream=s.wav"), "--workdir"),
        (lambda: command(extract, f"--workdir={tmp_path}", "--out=x"), "--workdir"),
    ]
    for case, message in cases:
        assert case() == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.search(message, error), error
    assert not any(tmp_path.iterdir())


def write_shapes(folder, count, size=8):
    """Pictures of a bright square (class 1) or cross (2) on dark noise (0), with their masks."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros((size, size), np.uint8)
        row, column = rng.integers(1, size - 4, 2)
        if number % 2:
            mask[row : row + 3, column : column + 3] = 1
        else:
            mask[row + 1, column : column + 3] = 2
            mask[row : row + 3, column + 1] = 2
        picture = rng.integers(0, 60, (size, size, 3)).astype(np.uint8)
        picture[mask > 0] += 150
        mask[0, 0] = 255  # belongs to nobody
        Image.fromarray(picture).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03d}.png")


@pytest.mark.slow
def test_segmentation(tmp_path):
    write_shapes(tmp_path / "shapes", 60)
    cache, folder = tmp_path / "cache", tmp_path / "run"
    arguments = [f"--data={tmp_path / 'shapes'}", f"--out={cache}", "--format=segmentation"]
    assert prepare_images.main(["", *arguments, "--size=8"]) == 0
    settings = ["model.per_pixel=true", "train.steps=120", "train.eval_every=120", "data.flip=true"]
    settings += ["train.log_every=10", "train.budget=none", "model.maps=6"]
    assert launched(folder, *settings, extra=[f"--data={cache}"]) == 0
    result = result_of(folder)
    # All background would have an IoU of 88 % for one class and 0 for two: 29 %.
    assert result["mean_iou_pct"] > 33
    wrong = [f"--data={cache}", "--set=model.per_pixel=false"]
    assert launched(tmp_path / "other", *settings, extra=wrong) == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_cifar_archive(tmp_path):
    """The commands on a small archive in CIFAR-10's binary form."""
    rng = np.random.default_rng(0)
    batches = tmp_path / "cifar-10-batches-bin"
    batches.mkdir()
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for name in names:
        rows = [bytes([i % 10]) + rng.bytes(3072) for i in range(20)]
        (batches / name).write_bytes(b"".join(rows))
    (batches / "batches.meta.txt").write_text("\n".join(f"class_{i}" for i in range(10)) + "\n")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(batches, batches.name)
    cache = tmp_path / "cache"
    assert prepare_images.main(["", f"--data={archive}", f"--out={cache}"]) == 0
    config = CONFIG.replace("bsn_digits", "bsn_cifar")
    settings = ["model.depth=2", "model.maps=2", "train.steps=2", "train.batch_size=4"]
    settings += ["train.log_every=1", "train.eval_every=2", "train.budget=0.5"]
    chosen = [f"--set={setting}" for setting in settings]
    folder = tmp_path / "run"
    paths = [f"--config={config}", f"--data={cache}", f"--workdir={folder}"]
    assert command(launch, *paths, *chosen) == 0
    result = result_of(folder)
    assert set(result["costs"]) == {"macs", "params"}
    assert run_folder.read(folder).input_shape == (32, 32, 3)
