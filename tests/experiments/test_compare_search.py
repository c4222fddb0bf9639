"""Searches beside learnt gates, as a user meets them."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from data_prep.command.cli import run
from experiments import compare_search
from experiments.config import Config, DataConfig, Hooks, ModelConfig, TrainConfig
from experiments.runs import folder as run_folder
from experiments.runs import trained
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.folder import RunInfo
from experiments.search.finetuning import with_gates
from experiments.training.init_from import fresh_member
from experiments.training.job import run_keys
from sanas_jax.data.images import Pixels
from sanas_jax.graph import prune
from tests.helpers.image_runs import CLASSES, write_image_run
from tests.helpers.runs import write_run


def command(module, *arguments):
    return run(module.define_flags, module.main, "", [module.__name__, *map(str, arguments)])


def saved(folder, gates=None, **train):
    """A fabric on digits that nobody trained, with these gates; returns its live edges by name."""
    model = ModelConfig(family="fabric", depth=2, maps=(2,), cell="constant", gate_bias=0.3)
    settings = {"batch_size": 8, "warmup_steps": 1, "class_weighted": False} | train
    config = Config("", model, DataConfig(cache="digits"), TrainConfig(**settings))
    pixels = Pixels(mean=jnp.full(1, 0.3), std=jnp.full(1, 0.4))
    info = RunInfo(config, Hooks(), CLASSES, "cd" * 32, pixels, jnp.ones(10), (8, 8, 1))
    run_folder.create(folder, info, None)
    built = trained.training_of(info)
    net = built.model.net
    live = np.asarray(prune(net, jnp.ones(len(net.edges)) if gates is None else gates(net)))
    member = with_gates(fresh_member(built, run_keys(0).init), net, live > 0)
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(0, member)
    checkpoints.close()
    return [name for name, on in zip(net.index, live, strict=True) if on]


@pytest.mark.slow
def test_gates_beside_searches_on_images(tmp_path, capsys):
    net, gates, out = tmp_path / "net", tmp_path / "gates", tmp_path / "out"
    saved(net)
    left_out = ("0_0-1_0", "1_0-1_1")
    edges = saved(
        gates,
        lambda net: jnp.array([name not in left_out for name in net.index], jnp.float32),
        init_from=str(net),
        budget=0.8,
    )
    asked = (f"--workdir={net}", f"--gates={gates}", f"--out={out}", "--evaluations=6")
    asked += ("--population=3", "--tournament=2", "--at_once=3", "--finetune_steps=2")
    assert command(compare_search, *asked) == 0
    printed = capsys.readouterr().out
    for words in ("gates", "random", "evolution", "everything on", "hypervolume of", "80 %"):
        assert words in printed
    lines = [json.loads(line) for line in (out / "net/search.jsonl").read_text().splitlines()]
    found = {one["method"]: one for one in json.loads((out / "comparison.json").read_text())}
    budget = lines[1]["budget"]
    assert [line["method"] for line in lines[1:]] == 6 * ["random"] + 6 * ["evolution"]
    assert all(0 < line["cost"] <= budget * 1.001 for line in lines[1:])
    assert all(found[m]["share"] <= found["gates"]["share"] * 1.001 for m in found if "on" not in m)
    assert found["everything on"]["share"] == pytest.approx(1)
    assert found["gates"]["edges"] == edges
    assert 0 < found["gates"]["share"] < 1
    for name in ("random", "evolution"):
        own = [line for line in lines[1:] if line["method"] == name]
        assert found[name]["validation"] == max(line["accuracy"] for line in own)
    assert all(0 <= one["tuned"] <= 1 for one in found.values())
    # Neither the network nor what the gates began with has trained since: the same weights.
    assert found["gates"]["own"] == found["gates"]["testing"]
    assert found["random"]["own"] is None
    assert (out / "comparison.png").read_bytes()[:4] == b"\x89PNG"

    # Again, from a file that a kill cut short: the same result, and no line twice.
    path = out / "net/search.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert command(compare_search, *asked) == 0
    assert capsys.readouterr().out == printed[printed.index("asked ") :]  # nothing is trained
    assert path.read_bytes() == whole
    assert command(compare_search, *asked, "--evaluations=7") == 1
    assert "expected a search with the same evaluations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--workdir: expected a super-network, got none"),
        (("--workdir=net",), "--gates, --budgets: expected one of them, got neither"),
        (("--workdir=net", "--budgets=50%", "--gates=gates"), "got both"),
        (("--workdir=net", "--gates=static"), "one architecture for all inputs"),
        (("--workdir=net", "--gates=gates"), "began from a --workdir"),
        (("--workdir=net", "--budgets=50%", "--workdir=copy/net"), "different names"),
        (("--workdir=net", "--budgets=50%", "--stream=a.wav"), "--stream: expected runs on audio"),
        (("--workdir=net", "--budgets=50%", "--tournament=99"), "at most the population of 20"),
        (("--workdir=net", "--budgets=50%", "--seeds=-1"), "--seeds: expected numbers"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    tmp_path, monkeypatch, capsys, without_weights, arguments, message
):
    monkeypatch.chdir(tmp_path)
    write_image_run(tmp_path / "net")
    write_image_run(tmp_path / "copy" / "net")
    write_image_run(tmp_path / "gates", init_from="elsewhere")
    write_image_run(tmp_path / "static", static=True)
    assert command(compare_search, *arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workdir=speech", "--budgets=50%"), "--gates: expected an adaptive network"),
        (("--workdir=speech", "--gates=speech"), "--choose_on, --stream: expected the WAV"),
        (("--workdir=speech", "--gates=images"), "got both"),
    ],
)
def test_what_cannot_be_compared_on_streams_is_one_line(
    tmp_path, monkeypatch, capsys, without_weights, arguments, message
):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "speech")
    write_image_run(tmp_path / "images")
    assert command(compare_search, *arguments) == 1
    assert message in capsys.readouterr().err


@pytest.fixture
def without_weights(monkeypatch):
    """Runs are read without their checkpoints, which these do not have."""
    monkeypatch.setattr(trained, "restore_params", lambda folder, info, sanas, which: (0, {}))
