"""Searches beside learnt gates, as a user meets them."""

import json
import re

import pytest

from data_prep.command.cli import run
from experiments import compare_search, launch
from experiments.runs import trained
from tests.helpers.image_runs import write_image_run
from tests.helpers.places import CONFIGS
from tests.helpers.runs import write_run

SETTINGS = (
    "model.depth=2",
    "model.maps=2",
    "model.gate_bias=0.3",
    "train.steps=2",
    "train.batch_size=8",
    "train.log_every=2",
    "train.eval_every=2",
    "train.controller_delay_steps=0",
    "train.report_costs=",
)


def command(module, *arguments):
    return run(module.define_flags, module.main, "", [module.__name__, *map(str, arguments)])


def launched(folder, *settings):
    words = [f"--set={setting}" for setting in (*SETTINGS, *settings)]
    config = CONFIGS / "bsn_digits.py"
    assert command(launch, f"--config={config}", f"--workdir={folder}", *words) == 0


@pytest.mark.slow
def test_gates_beside_searches_on_images(tmp_path, capsys):
    net, gates, out = tmp_path / "net", tmp_path / "gates", tmp_path / "out"
    launched(net, "train.budget=none", "train.controller_learning_rate=0")
    launched(gates, f"train.init_from={net}", "train.budget=0.8")
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
    for name in ("random", "evolution"):
        own = [line for line in lines[1:] if line["method"] == name]
        assert found[name]["validation"] == max(line["accuracy"] for line in own)
    # Trained on: the weights of live edges moved, in the folder of the architecture.
    assert {one["tuned"] is not None for one in found.values()} == {True}
    assert found["gates"]["own"] is not None
    assert found["random"]["own"] is None
    assert (out / "comparison.png").read_bytes()[:4] == b"\x89PNG"

    # Again, from a file that a kill cut short: the same result, and no line twice.
    path = out / "net/search.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert command(compare_search, *asked) == 0
    assert capsys.readouterr().out == printed
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
        (("--workdir=net", "--budgets=50%", "--workdir=net"), "different names"),
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
