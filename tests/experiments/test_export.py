"""Exported models answer as a session does, run nothing that is off, and say what they are."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile

from examples.jax_listen import load, run, tell
from experiments.config import Config, ModelConfig, load_config
from experiments.config.model import macs_per_step
from experiments.export import cli
from experiments.live.engine import runtime_of
from experiments.machine.compiler import NoCompilerError, find_compiler
from experiments.runs import folder as run_folder
from experiments.runs.detectors import chosen_detector
from experiments.runs.packed import write_params
from experiments.runs.trained import model_of, read_model
from sanas_jax.rollout import init_model
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.session import Session
from tests.helpers.packed import write_described, write_packed
from tests.helpers.places import ROOT
from tests.helpers.runs import CONFIG_FILE
from tests.helpers.toy import CLASSES

PRICES = (0.5, 2.0)
CHANGE = 12  # the step at which the price changes
SEPARABLE = ModelConfig(family="separable", conditioned=True, state_size=6)
BUILD_NET = """
from sanas_jax.spaces import separable


def build_net(config, num_classes):
    return separable(
        num_classes=num_classes,
        wide=((4, 5, 2), (6, 9, 1)),
        slim=((3, 9, 4),),
        exits=(1,),
        features=8,
    )
"""


def make_lively(params):
    """Gates that move, and statistics as if there had been data."""
    rng = np.random.default_rng(3)
    if "stats" in params:
        params["stats"] = jax.tree.map(
            lambda x: x * rng.uniform(0.5, 1.5, x.shape) + rng.uniform(0, 0.5, x.shape),
            params["stats"],
        )
    head = params["controller"]["head"]
    head["kernel"] = 3 * rng.standard_normal(head["kernel"].shape)
    return params


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A packed network of the shipped one's family: blocks over rows, exits, reuse."""
    folder = tmp_path_factory.mktemp("packed") / "small"
    write_described(folder, Config(model=SEPARABLE))
    config_file = tmp_path_factory.mktemp("config") / "config.py"
    config_file.write_text(CONFIG_FILE + BUILD_NET)
    _, hooks = load_config(str(config_file))
    run_folder.create(folder, run_folder.read(folder)._replace(hooks=hooks), str(config_file))
    model = model_of(run_folder.read(folder, trust=True))
    params = make_lively(init_model(model, jax.random.key(1)))
    kernel = np.random.default_rng(78).standard_normal((8, len(CLASSES)))  # words do fire
    params["net"]["out"]["Dense_0"]["kernel"] = kernel
    write_params(folder, 120, params)
    return folder


@pytest.fixture(scope="module")
def audio():
    """Noise whose loudness changes."""
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0, 0.3, 32) * (rng.random(32) < 0.6), 4000)
    return (loud * rng.standard_normal(len(loud))).astype(np.float32)


def listened(reference, audio, prices=PRICES, detector=None):
    """What a session hears; the second price holds from step `CHANGE` on."""
    model = read_model(reference, trust=True)
    session = Session(runtime_of(model), cost_weight=prices[0], detector=detector)
    heard = []
    for sample in range(0, len(audio), 1000):
        heard += session.push(audio[sample : sample + 1000])
        if len(heard) == CHANGE and prices[1] is not None:
            session.tell(prices[1])
            prices = (prices[1], None)
    return heard + session.finish()


@pytest.fixture(scope="module")
def expected(small, audio):
    heard = listened(small, audio)
    live = np.stack([h.live for h in heard])
    gated = [edge.gated for edge in read_model(small, trust=True).sanas.net.edges]
    assert ((live.mean(0) > 0.05) & (live.mean(0) < 0.95))[gated].sum() >= 3
    return heard


def command(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["export", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        cli()
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def exported(monkeypatch, capsys, folder, out, *argv, price=PRICES[0]):
    told = ["--trust"] if price is None else ["--trust", "--cost_weight", price]
    code, said, err = command(monkeypatch, capsys, "--workdir", folder, "--out", out, *told, *argv)
    assert (code, err) == (0, "")
    assert said.startswith(f"wrote {out}")
    return json.loads((out / "description.json").read_text())


def assert_same(heard, posteriors, live, gammas, atol):
    assert len(heard) == len(posteriors)
    np.testing.assert_array_equal(live, [h.live for h in heard])
    np.testing.assert_allclose(posteriors, [h.posterior for h in heard], atol=atol)
    np.testing.assert_allclose(gammas, [h.gamma for h in heard], atol=atol)


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


@pytest.mark.slow
def test_jax_answers_as_a_session(small, audio, expected, tmp_path, monkeypatch, capsys):
    about = exported(monkeypatch, capsys, small, tmp_path / "out")
    model = read_model(small, trust=True)
    net = model.sanas.net
    macs, controller = macs_per_step(model.sanas, False)
    assert about["classes"] == list(model.info.classes)
    assert {edge["name"]: edge["macs"] for edge in about["edges"]} == macs
    assert [edge["name"] for edge in about["edges"]] == [edge.name for edge in net.edges]
    assert about["controller_macs"] == controller
    assert about["detector"] == asdict(Detector()) | {"thresholds": []}
    assert about["formats"]["jax"]["platforms"] == ["cpu", "cuda", "tpu"]
    # One file holds the program for all three: it differs by platform, and runs on this one.
    program = jax.export.deserialize(bytearray((tmp_path / "out/jax/step.bin").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")

    read = load(tmp_path / "out")
    memory = read.begin(read.memory, np.pad(audio, 240)[: about["begin_samples"]])
    steps, padded = [], np.pad(audio, about["pad_samples"], mode=about["padding"])
    size, hop = about["step_samples"], about["step_advance"]
    for at in range(about["begin_advance"], len(padded) - size + 1, hop):
        if len(steps) == CHANGE:
            memory = tell(read, memory, PRICES[1])
        memory, *answer = read.step(memory, padded[at : at + size])
        steps.append(list(map(np.asarray, answer)))
    assert_same(expected, *map(np.stack, zip(*steps, strict=True)), atol=1e-5)
    whole = run(read, audio)
    np.testing.assert_array_equal(whole.posteriors[:CHANGE], [s[0] for s in steps[:CHANGE]])
    assert len(whole.live) == len(expected)
    assert run(read, audio[:5000]).posteriors.shape == (0, len(about["classes"]))


def test_what_runs_an_export_imports_no_model_code():
    def roots(path):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (name.split(".")[0] for name in names)

    theirs = {"jax", "numpy", "onnxruntime", "soundfile"}
    outside = {
        path: set(roots(path)) - set(sys.stdlib_module_names)
        for path in (
            "examples/jax_listen.py",
            "examples/onnx_listen.py",
        )
    }
    assert outside["examples/jax_listen.py"] == {"jax", "numpy"}
    assert outside["examples/onnx_listen.py"] == theirs - {"jax"}


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


def test_c_is_one_file_that_compiles(small, tmp_path, monkeypatch, capsys):
    argv = ("--format", "c", "--threshold", 0.25)
    about = exported(monkeypatch, capsys, small, tmp_path / "out", *argv)
    assert about["formats"] == {"c": {"file": "small.c", "name": "small", "weights": "float32"}}
    (path,) = (tmp_path / "out" / "c").iterdir()
    source = path.read_text()
    assert "s->threshold = 0.25;" in source
    assert f"#define SMALL_SAMPLES {about['step_advance']}\n" in source
    assert set(re.findall("#include <(.*)>", source)) == {"math.h", "stdint.h", "string.h"}
    try:
        command = find_compiler()
    except NoCompilerError as error:
        pytest.skip(str(error))
    call = [*command, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-c", path]
    done = subprocess.run([*call, "-o", tmp_path / "x.o"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_network_without_a_form_in_c_is_refused(tmp_path, monkeypatch, capsys):
    write_packed(tmp_path / "cnn", ModelConfig(maps=(2, 2), state_size=4, static=True))
    argv = ("--workdir", tmp_path / "cnn", "--out", tmp_path / "out", "--format", "c")
    code, out, err = command(monkeypatch, capsys, *argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "got Conv2D" in err
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--format", "torch"], "--format: expected any of jax, onnx, c, got torch"),
        (["--format", ""], "--format: expected any of jax, onnx, c, got none"),
        (["--platforms", "cpu,npu"], "--platforms: expected any of cpu, cuda, tpu, got npu"),
        (["--pretrained", "none"], "pretrained model: expected one of"),
        (["--workdir", "nothing"], "nothing"),
    ],
)
def test_bad_flags_are_one_line(monkeypatch, capsys, tmp_path, argv, message):
    code, out, err = command(monkeypatch, capsys, "--out", tmp_path / "out", *argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_an_export_is_not_replaced(monkeypatch, capsys, tmp_path):
    for name, found in (("description.json", "another export"), ("notes", "something else")):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("{}")
        code, _, err = command(monkeypatch, capsys, "--out", out)
        assert code == 1
        assert err == f"error: --out: expected a new folder, got {found}: {out}\n"
        assert [path.name for path in out.iterdir()] == [name]


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    for name in ("onnx_graph", "onnx_live", "onnx_ops", "onnx_scope", "onnx_memory"):
        monkeypatch.delitem(sys.modules, f"sanas_jax.export.{name}", raising=False)
        monkeypatch.delattr(f"sanas_jax.export.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, err = command(monkeypatch, capsys, "--out", tmp_path / "out", "--format", "onnx")
    assert code == 1
    assert err == ("error: --format: onnx needs the package onnx: pip install 'sanas-jax[onnx]'\n")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected an export with --format jax"):
        load(tmp_path)


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
