"""A run and a packed model are data: what their config.py says runs where it is trusted."""

import json

import pytest

from data_prep.command.cli import run
from experiments import export, listen, report
from experiments.config import Config, ModelConfig
from experiments.config.build import build_training
from experiments.runs import folder as run_folder
from experiments.runs.trained import model_of, read_model
from tests.helpers.packed import write_packed
from tests.helpers.toy import CLASSES

CODE = """
from pathlib import Path
from experiments.config import Config

Path("ran").touch()

def get_config():
    return Config()
"""
HOOK = {
    "build_net": "\ndef build_net(model, num_classes):\n    raise ValueError('it ran')\n",
    "build_cost": "\nfrom math import fsum as build_cost\n",
}


@pytest.fixture
def packed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_packed(tmp_path / "model", ModelConfig(maps=(2, 2)))
    (tmp_path / "model" / "config.py").write_text(CODE)
    return tmp_path / "model"


def test_reading_runs_no_code(packed):
    assert read_model(packed).step == 120
    assert run_folder.read(packed, trust=True).config.model.maps == (2, 2)
    (packed / "config.py").unlink()
    assert read_model(packed).step == 120
    assert not (packed.parent / "ran").exists()


@pytest.mark.parametrize("says", [True, False])
def test_a_network_that_is_code_needs_trust(packed, says):
    (packed / "config.py").write_text(CODE + HOOK["build_net"])
    path = packed / "config.json"
    described = json.loads(path.read_text())
    if says:
        described["hooks"] = ["build_net"]
    else:  # as before it was written down
        del described["hooks"]
    path.write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"got build_net in its config\.py, which is code"):
        read_model(packed)
    assert not (packed.parent / "ran").exists()
    with pytest.raises(ValueError, match="it ran"):
        read_model(packed, trust=True)
    assert (packed.parent / "ran").exists()


def test_a_cost_that_is_code_needs_trust_where_it_is_asked_for_alone(packed):
    (packed / "config.py").write_text(CODE + HOOK["build_cost"])
    described = json.loads((packed / "config.json").read_text())
    del described["hooks"]
    (packed / "config.json").write_text(json.dumps(described))
    info = run_folder.read(packed)
    model_of(info)
    with pytest.raises(ValueError, match=r"got build_cost in its config\.py"):
        build_training(Config(), len(CLASSES), info.hooks)
    assert not (packed.parent / "ran").exists()


def test_commands_run_no_code(packed, capsys):
    for command, flags in (
        (listen, ["--wav=none.wav"]),
        (export, ["--out=out", "--format=jax", "--platforms=cpu"]),
        (report, ["--out=page"]),
    ):
        run(command.define_flags, command.main, "", ["command", f"--workdir={packed}", *flags])
    assert (packed.parent / "page" / "report.html").is_file()
    assert not (packed.parent / "ran").exists()
    assert "fault of" not in capsys.readouterr().err
