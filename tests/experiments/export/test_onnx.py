"""A model in ONNX answers as a session does, and runs nothing that is off."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from examples.jax_listen import load, run, tell
from experiments.config import ModelConfig
from experiments.runs.detectors import chosen_detector
from experiments.runs.packed import write_params
from experiments.runs.trained import read_model
from sanas_jax.streaming.detector import Detector
from tests.helpers.export_command import (
    CHANGE,
    PRICES,
    assert_same,
    command,
    exported,
    listened,
    make_lively,
)
from tests.helpers.packed import write_packed
from tests.helpers.places import ROOT


def onnx_steps(out, about, audio, prices=PRICES, profile=None):
    """Posteriors, live, gammas by onnxruntime; the paths of the profile, if one is asked for."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    begin = onnxruntime.InferenceSession(out / "onnx" / "begin.onnx", options)
    if profile:
        # As written: nodes that are fused lose their names.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    step = onnxruntime.InferenceSession(out / "onnx" / "step.onnx", options)
    memory = dict(np.load(out / "onnx" / "memory.npz"))
    padded = np.pad(audio, about["pad_samples"], mode=about["padding"])
    first = {"samples": padded[: about["begin_samples"]], "frames": memory["frames"]}
    (memory["frames"],) = begin.run(None, first)
    names, answers = [o.name for o in step.get_outputs()], []
    size, hop = about["step_samples"], about["step_advance"]
    for at in range(about["begin_advance"], len(padded) - size + 1, hop):
        if len(answers) == CHANGE and prices[1] is not None:
            place = about["formats"]["onnx"]["log_price"]
            memory[place["array"]].flat[place["index"]] = np.log(prices[1])
        given = memory | {"samples": padded[at : at + size]}
        answer = dict(zip(names, step.run(names, given), strict=True))
        memory = {name: answer[f"next_{name}"] for name in memory}
        answers.append([answer[name] for name in ("posterior", "live", "gamma")])
    parts = list(map(np.stack, zip(*answers, strict=True)))
    return [*parts, json.loads(Path(step.end_profiling()).read_text())] if profile else parts


def test_onnx_answers_as_a_session_and_runs_nothing_that_is_off(
    small, audio, expected, tmp_path, monkeypatch, capsys
):
    onnx = pytest.importorskip("onnx")
    about = exported(monkeypatch, capsys, small, tmp_path / "out", "--format", "onnx")
    found = onnx_steps(tmp_path / "out", about, audio, profile=tmp_path / "profile")
    posteriors, live, gammas, profile = found
    assert_same(expected, posteriors, live, gammas, atol=1e-4)

    net = read_model(small, trust=True).sanas.net
    graph = onnx.load(tmp_path / "out" / "onnx" / "step.onnx").graph
    ifs = {node.name: node for node in graph.node if node.op_type == "If"}
    assert set(ifs) == set(net.index) - {"keep"}  # which has no block
    ran = Counter(
        event["name"].removesuffix("_kernel_time")
        for event in profile
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    )
    turns = turns_of(about, live)
    heavy = off = 0
    for edge, node in ifs.items():
        then = next(a.g for a in node.attribute if a.name == "then_branch")
        loops = [n for n in then.node if n.op_type == "Loop"]
        inside = [n for loop in loops for a in loop.attribute for n in a.g.node]
        assert bool(loops) == (edge in turns)
        assert ran[edge] == len(live)
        times = int(live[:, net.index[edge]].sum())
        off += times < len(live)
        for of, count in ((then.node, times), (inside, turns.get(edge, 0))):
            for one in of:
                if one.op_type in ("Conv", "MatMul", "Loop"):
                    assert ran[one.name] == count, (edge, one.name)
                    heavy += one.op_type != "Loop"
    assert heavy >= 8
    assert off >= 5
    outside = [n.op_type for n in graph.node if n.op_type == "Conv"]
    assert outside == ["Conv"]  # the features'


def turns_of(about, live):
    """Edges over rows → steps whose rows they compute along a stream."""
    turns = {}
    for e, edge in enumerate(about["edges"]):
        state = about["formats"]["onnx"]["memory"].get(f"rows_{edge['name']}")
        if state is None:
            continue
        most = round(np.ceil(edge["macs"] / edge["fresh_macs"] - 1e-9))
        missed, turns[edge["name"]] = most, 0
        for on in live[:, e]:
            behind = min(missed + 1, most)
            turns[edge["name"]] += behind * int(on)
            missed = 0 if on else behind
    assert any(
        turns[name] > live[:, e].sum()
        for e, name in enumerate(edge["name"] for edge in about["edges"])
        if name in turns
    )
    return turns


def test_a_static_network_has_no_branches(audio, tmp_path, monkeypatch, capsys):
    onnx = pytest.importorskip("onnx")
    model = ModelConfig(maps=(2, 2), state_size=4, static=True)
    write_packed(tmp_path / "static", model)
    argv = ("--format", "onnx,jax", "--platforms", "cpu")
    about = exported(monkeypatch, capsys, tmp_path / "static", tmp_path / "out", *argv, price=None)
    argv = ("--workdir", tmp_path / "static", "--out", tmp_path / "told", "--cost_weight", 1)
    code, _, err = command(monkeypatch, capsys, *argv)
    assert (code, err.count("\n")) == (1, 1)
    assert "expected a conditioned network" in err
    assert not (tmp_path / "told").exists()
    assert about["cost_weight"] is None
    assert [f["log_price"] for f in about["formats"].values()] == [None, None]
    heard = listened(tmp_path / "static", audio, (None, None))
    found = onnx_steps(tmp_path / "out", about, audio, (None, None))
    assert_same(heard, *found, atol=1e-4)
    read = load(tmp_path / "out")
    assert_same(heard, *run(read, audio), atol=1e-5)
    with pytest.raises(ValueError, match="expected a conditioned network"):
        tell(read, read.memory, 1.0)
    graph = onnx.load(tmp_path / "out" / "onnx" / "step.onnx").graph
    assert not [n for n in graph.node if n.op_type == "If"]


def test_the_example_prints_the_words_of_a_session(small, audio, tmp_path, monkeypatch, capsys):
    """With a detector that was calibrated, has thresholds of its own, and minds talk."""
    pytest.importorskip("onnxruntime")
    own: dict[str, Any] = {"threshold": 0.3, "thresholds": [0.4, 0.2, 0.25]}
    talk = {"talk_threshold": 0.5, "talk_share": 0.05, "talk_ms": 1000, "unknown_label": 0}
    settings = own | talk
    entries = [{"cost_weight": PRICES[0], "settings": settings}]
    small = shutil.copytree(small, tmp_path / "small")
    (small / "detector.json").write_text(json.dumps({"step": 120, "detectors": entries}))
    about = exported(monkeypatch, capsys, small, tmp_path / "out", "--format", "onnx")
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "examples" / "onnx_listen.py",
            tmp_path / "out",
            tmp_path / "a.wav",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    detector = Detector(**settings)
    heard = listened(small, audio, (PRICES[0], None), detector)
    more = listened(small, audio, (PRICES[0], None), Detector(**own))
    assert sum(h.detection is not None for h in heard) < sum(h.detection is not None for h in more)
    words = [h.detection for h in heard if h.detection and h.detection.label >= 2]
    assert len(words) >= 2
    lines = [
        f"{w.time_ms / 1000:8.1f} s  {about['classes'][w.label]}  {w.score:.4f}" for w in words
    ]
    assert done.stdout.splitlines() == lines
    assert f"{len(words)} words" in done.stderr


@pytest.mark.slow
def test_the_shipped_model_answers_as_a_session(audio, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    reference = "pretrained:kws"
    about = exported(monkeypatch, capsys, reference, tmp_path / "out", "--format", "jax,onnx")
    model = read_model(reference, trust=True)
    detector = asdict(chosen_detector(model, PRICES[0], None))
    assert about["detector"] == detector | {"thresholds": list(detector["thresholds"])}
    heard = listened(reference, audio, (PRICES[0], None))
    assert_same(heard, *run(load(tmp_path / "out"), audio), atol=1e-5)
    found = onnx_steps(tmp_path / "out", about, audio, (PRICES[0], None))
    assert_same(heard, *found, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("cnn-trad-fpool3", {"maps": (4, 4)}),
        ("bc-resnet-1", {}),
        ("tc-resnet8", {}),
        ("sparknet-16", {}),
        ("rep-cnn-32", {}),
        ("fabric", {"maps": (4,), "depth": 2}),
        ("dense-resnet", {}),
        ("resnet-fabric", {}),
    ],
)
def test_every_family_has_a_form_in_onnx(family, settings, audio, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "packed"
    model = ModelConfig(family=family, conditioned=True, **({"state_size": 8} | settings))
    params = make_lively(write_packed(folder, model))
    params["controller"]["head"]["bias"] = 4.0 + 0 * params["controller"]["head"]["bias"]
    write_params(folder, 120, params)
    about = exported(monkeypatch, capsys, folder, tmp_path / "out", "--format", "onnx")
    heard = listened(folder, audio)
    assert 0.05 < np.mean([h.live for h in heard]) < 0.95
    assert_same(heard, *onnx_steps(tmp_path / "out", about, audio), atol=1e-4)
