"""Decisions of many architectures: the line through them, and what the command makes of them."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from experiments.benchmarks import architectures
from experiments.live.decisions import Spending
from experiments.machine.compiler import NoCompilerError, find_compiler
from experiments.runs.trained import TrainedModel, read_model
from sanas_jax.controller import Constant


def test_a_line_without_noise_is_found_and_explains_all():
    macs = np.array([1e5, 3e5, 4e5, 1e6])
    line = architectures.fit(macs, 20e-6 + 25e-12 * macs)
    assert line.intercept == pytest.approx(20e-6)
    assert line.slope == pytest.approx(25e-12)
    assert line.r2 == pytest.approx(1)


def test_time_that_does_not_follow_arithmetic_is_explained_by_nothing():
    macs = np.array([1.0, 2.0, 1.0, 2.0])
    assert architectures.fit(macs, np.array([1.0, 1.0, 2.0, 2.0])).r2 == pytest.approx(0)


def test_rows_that_were_missed_are_other_computations():
    model = read_model("pretrained:kws")
    net = model.sanas.net
    spending = Spending(model)
    everything, none = np.ones(len(net.edges)), np.zeros(len(net.edges))
    first = net.index["block_0"]
    whole = spending.turns(everything)
    # Of the window's 49 rows (101 frames, kernel 5, stride 2) a step of 20 frames makes 10 anew.
    assert whole[first] == pytest.approx(4.9)
    spending.add(everything)
    assert spending.turns(everything)[first] == 1
    assert spending.turns(none)[first] == 0
    spending.add(none)
    assert spending.turns(everything)[first] == 2


def of_constant_gamma(model):
    """The model with one Γ for all steps."""
    controller = dataclasses.replace(model.sanas.controller, cell=Constant())
    return dataclasses.replace(model, sanas=dataclasses.replace(model.sanas, controller=controller))


@pytest.mark.parametrize("without", [TrainedModel.as_static, of_constant_gamma])
def test_a_network_without_a_controller_is_refused(without, tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "s.wav", np.zeros(16_000), 16_000)
    model = without(read_model("pretrained:kws"))
    monkeypatch.setattr(architectures, "read_model", lambda name: model)
    assert architectures.main(["architectures", f"--stream={tmp_path / 's.wav'}"]) == 1
    assert "--model: expected a network with a controller" in capsys.readouterr().err


@pytest.mark.slow
def test_both_engines_are_timed_on_the_same_decisions(tmp_path, capsys):
    try:
        find_compiler()
    except NoCompilerError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "s.wav", rng.normal(0, 0.1, 16_000 * 12), 16_000)
    figure, out = tmp_path / "line.png", tmp_path / "out.json"
    flags = [f"--stream={tmp_path / 's.wav'}", f"--figure={figure}", f"--json={out}", "--quick"]
    assert architectures.main(["architectures", *flags]) == 0
    assert "native" in capsys.readouterr().out
    rows = json.loads(out.read_text())["benchmarks"]["architectures"]["rows"]
    assert rows["native"]["computed"] == rows["xla"]["computed"] > 3
    assert len(rows["native"]["decisions"]["seconds"]) == architectures.QUICK_STEPS
    assert figure.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--stream=/no.wav"], "--stream: expected a file, got /no.wav"),
        (["--stream=/no.wav", "--device=default"], "--device: expected cpu"),
    ],
)
def test_bad_flags_are_said(flags, said, capsys):
    assert architectures.main(["architectures", *flags]) == 1
    assert said in capsys.readouterr().err
