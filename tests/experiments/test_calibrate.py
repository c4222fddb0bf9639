"""The command calibrate: what it writes, what evaluate makes of it, what both refuse."""

import dataclasses
import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile

from data_prep import make_stream
from data_prep.command.cli import run
from data_prep.speech.negative_cache import NegativeRow, write_negatives
from experiments import calibrate, evaluate, launch
from experiments.config import ModelConfig
from experiments.evaluation.detector_search import SUPPRESSIONS_MS, THRESHOLDS, WINDOWS_MS
from experiments.flags.one_model import DEFAULT_PRICE
from experiments.runs.detectors import read_detector
from experiments.runs.stored_results import result_files
from sanas_jax.streaming.detector import Detector, detect
from tests.helpers.packed import write_packed
from tests.helpers.places import CONFIGS
from tests.helpers.toy import write_toy_cache

STATIC = ModelConfig(maps=(2, 2), state_size=4, static=True)
CONFIG = str(CONFIGS / "kws_debug.py")


def train(root, name, *extra):
    settings = ["model.maps=2,2", "model.state_size=4", "train.steps=2", "train.batch_size=4"]
    settings += ["train.log_every=2", "train.eval_every=2", "data.max_seconds=1.6", *extra]
    flags = [f"--set={setting}" for setting in settings]
    paths = [f"--data={root / 'cache'}", f"--workdir={root / name}"]
    assert (
        run(launch.define_flags, launch.main, "", ["x", f"--config={CONFIG}", *paths, *flags]) == 0
    )
    return root / name


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A cache, a run, and streams of two splits."""
    folder = tmp_path_factory.mktemp("calibrate")
    cache = write_toy_cache(folder / "cache")
    train(folder, "run", "model.static=true")
    for split in ("validation", "testing"):
        wav, length = folder / f"{split}.wav", "--minutes=0.5"
        assert (
            make_stream.main(["x", f"--data={cache}", f"--out={wav}", f"--split={split}", length])
            == 0
        )
    return folder


@pytest.fixture
def trained(root, tmp_path):
    """The run, in a folder that a test may change."""
    return shutil.copytree(root / "run", tmp_path / "run")


def run_calibrate(*arguments):
    return run(calibrate.define_flags, calibrate.main, "", ["calibrate", *map(str, arguments)])


def run_evaluate(*arguments):
    return run(evaluate.define_flags, evaluate.main, "", ["evaluate", *map(str, arguments)])


@pytest.mark.slow
def test_calibrated_detector_is_the_one_that_evaluate_uses(root, trained, tmp_path, capsys):
    stream = ["--workdir", trained, "--stream", root / "validation.wav"]
    limit = "--false_alarms_per_hour=200"
    assert run_calibrate(*stream, limit) == 0
    assert "correct" in capsys.readouterr().out
    found = json.loads((trained / "detector.json").read_text())
    assert found["step"] == 2
    assert found["false_alarms_per_hour_limit"] == 200
    (about,) = found["streams"]
    assert (about["name"], about["num_words"], about["seconds"]) == ("validation", 10, 30)
    assert about["source"]["split"] == "validation"
    (entry,) = found["detectors"]
    settings, scores = entry["settings"], entry["scores"]
    assert entry["cost_weight"] is None
    assert settings["window_ms"] in WINDOWS_MS
    assert settings["threshold"] in THRESHOLDS
    assert settings["suppression_ms"] in SUPPRESSIONS_MS
    assert scores["false_alarms_per_hour"] <= 200

    out = tmp_path / "out.json"
    assert run_evaluate(*stream, "--detector=calibrated", "--json", out) == 0
    assert ", calibrated on validation" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["detector"] == {"kind": "calibrated", **settings, "calibrated_at": None}
    for name in ("correct_pct", "wrong_pct", "false_alarms_per_hour"):
        assert result[name] == pytest.approx(scores[name])
    # The curve's other thresholds keep the chosen smoothing.
    trace = np.load(trained / "evaluations" / "calibrated" / "validation.npz")
    detector = dataclasses.replace(Detector(**settings), threshold=0.2)
    fired = len(detect(trace["posteriors"], trace["times_ms"], detector))
    at = {row["threshold"]: row for row in result["roc"]}[0.2]
    counted = at["correct_pct"] + at["wrong_pct"] + at["false_alarm_pct"]
    assert counted == pytest.approx(100 * fired / 10)
    assert fired > 0


@pytest.mark.slow
def test_default_detector_stays_the_protocols(root, trained, tmp_path):
    out = tmp_path / "out.json"
    stream = ["--workdir", trained, "--stream", root / "testing.wav", "--json", out]
    assert run_evaluate(*stream, "--threshold=0.6") == 0
    result = json.loads(out.read_text())
    settings = dataclasses.asdict(Detector(threshold=0.6)) | {"thresholds": []}
    expected = {"kind": "default", **settings}
    assert result["detector"] == expected
    assert json.loads((trained / "evaluations" / "testing.json").read_text()) == result


def test_evaluations_of_both_detectors_are_kept(root, trained):
    settings = dataclasses.asdict(Detector(threshold=0.3))
    detectors = {"step": 2, "detectors": [{"cost_weight": None, "settings": settings}]}
    (trained / "detector.json").write_text(json.dumps(detectors))
    stream = ["--workdir", trained, "--stream", root / "testing.wav"]
    assert run_evaluate(*stream) == 0
    first = {path: path.read_bytes() for path in (trained / "evaluations").glob("*.*")}
    assert run_evaluate(*stream, "--detector=calibrated") == 0
    assert first == {path: path.read_bytes() for path in (trained / "evaluations").glob("*.*")}
    kept = {key: json.loads(file.read_text()) for key, file in result_files(trained).items()}
    assert {key: (r["detector"]["kind"], r["threshold"]) for key, r in kept.items()} == {
        "testing": ("default", 0.7),
        "calibrated/testing": ("calibrated", 0.3),
    }


def test_testing_streams_and_bad_input_are_refused_in_one_line(root, trained, tmp_path, capsys):
    wav = tmp_path / "s.wav"
    shutil.copy(root / "validation.wav", wav)
    shutil.copy(root / "validation_labels.txt", tmp_path / "s_labels.txt")
    good = ["--workdir", trained, "--stream", root / "validation.wav"]
    cases = [
        ([*good, "--stream", root / "testing.wav"], "expected a stream of validation clips"),
        ([*good, "--false_alarms_per_hour=-1"], "false_alarms_per_hour"),
        ([*good, "--checkpoint=77"], "expected 'latest' or one of"),
        (["--workdir", tmp_path, *good[2:]], "expected a folder with a run"),
        (["--workdir", trained, "--stream", "/no.wav"], "--stream: expected a file"),
        ([*good[:2], "--data=c", "--labels=l"], "--labels: expected them with --stream"),
    ]
    for arguments, message in cases:
        assert run_calibrate(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    for text, message in (
        ("[]", "expected what make_stream writes"),
        ("{", "expected what make_stream writes"),
        ('{"split": "tests"}', "expected a split out of training, validation, testing"),
    ):
        (tmp_path / "s.json").write_text(text)
        assert run_calibrate("--workdir", trained, "--stream", wav) == 1
        assert message in capsys.readouterr().err
    assert not (trained / "detector.json").exists()


def test_stream_of_unknown_split_is_taken_with_a_warning(root, trained, tmp_path, capsys):
    shutil.copy(root / "validation.wav", tmp_path / "s.wav")
    shutil.copy(root / "validation_labels.txt", tmp_path / "s_labels.txt")
    other = shutil.copytree(trained, tmp_path / "other")
    arguments = ["--workdir", trained, "--workdir", other, "--stream", tmp_path / "s.wav"]
    assert run_calibrate(*arguments, "--false_alarms_per_hour=200") == 0
    assert (other / "detector.json").is_file()
    assert "make sure that it is not of the testing split" in capsys.readouterr().out
    assert json.loads((trained / "detector.json").read_text())["streams"][0]["source"] is None


def test_evaluate_refuses_a_detector_that_is_not_the_models(root, trained, capsys):
    arguments = ["--workdir", trained, "--stream", root / "testing.wav", "--detector=calibrated"]
    entry = {"cost_weight": None, "settings": dataclasses.asdict(Detector())}
    cases = [
        (None, "expected detector.json, got none: run experiments.calibrate"),
        ("{}", "expected what calibrate writes"),
        ('{"step": 2, "detectors": []}', "expected what calibrate writes"),
        ('{"step": 2, "detectors": [{"settings": {"window": 3}}]}', "expected what calibrate"),
        (json.dumps({"step": 2, "detectors": [{"settings": {}}]}), "expected what calibrate"),
        (json.dumps({"step": 1, "detectors": [entry]}), "for step 2, got those for step 1"),
        (
            json.dumps({"step": 2, "detectors": [{"settings": {"thresholds": ["a"]}}]}),
            "expected what calibrate",
        ),
        (
            json.dumps({"step": 2, "detectors": [{"settings": {"thresholds": 0.5}}]}),
            "expected what calibrate",
        ),
    ]
    for text, message in cases:
        if text is not None:
            (trained / "detector.json").write_text(text)
        assert run_evaluate(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert run_evaluate(*arguments, "--threshold=0.6") == 1
    assert "expected none with --detector=calibrated, got 0.6" in capsys.readouterr().err


@pytest.mark.slow
def test_conditioned_network_has_a_detector_for_each_price(root, tmp_path):
    folder = train(root, "any", "model.conditioned=true", "train.cost_weight_range=0.03,2")
    stream = ["--workdir", folder, "--stream", root / "validation.wav"]
    assert run_calibrate(*stream, "--false_alarms_per_hour=200") == 0
    entries = json.loads((folder / "detector.json").read_text())["detectors"]
    prices = [entry["cost_weight"] for entry in entries]
    # What `listen` tells unless asked has its own.
    assert prices == pytest.approx(sorted([*np.geomspace(0.03, 2, 9), DEFAULT_PRICE]))
    out = tmp_path / "out.json"
    told = "--cost_weights=" + ",".join(map(str, prices))
    assert run_evaluate(*stream, told, "--detector=calibrated", "--json", out) == 0
    for result, entry in zip(json.loads(out.read_text()), entries, strict=True):
        assert result["detector"]["calibrated_at"] == result["cost_weight"] == entry["cost_weight"]
        assert result["correct_pct"] == pytest.approx(entry["scores"]["correct_pct"])


def test_negatives_need_no_labels_and_give_a_detector_for_each_rate(
    root, trained, capsys, monkeypatch
):
    rng = np.random.default_rng(0)
    for name in ("talk", "home"):
        (root / name).mkdir(exist_ok=True)
        for part in range(2):
            samples = rng.normal(0, 0.1, 16_000 * 4)
            soundfile.write(root / name / f"{part}.wav", samples, 16_000)
    negatives = ["--negatives", root / "talk", "--negatives", f"room={root / 'home'}"]
    stream = ["--workdir", trained, "--stream", root / "validation.wav"]
    asked = "--false_alarms_per_hour=5000,0,10000,5000"
    assert run_calibrate(*stream, *negatives, asked) == 0
    found = json.loads((trained / "detector.json").read_text())
    assert [each["name"] for each in found["negatives"]] == ["room", "talk"]
    entries = found["detectors"]
    assert [entry["false_alarms_per_hour_limit"] for entry in entries] == [5000, 0, 10000]
    for entry in entries:
        for on, name in zip(entry["negatives"], ("room", "talk"), strict=True):
            assert on["name"] == name
            assert on["hours"] == pytest.approx(8 / 3600)
            assert on["per_hour"] <= entry["false_alarms_per_hour_limit"]
            assert on["low"] <= on["per_hour"] <= on["high"]
    said = capsys.readouterr().out
    assert "  without words: room " in said
    assert re.search(r"^  calibrated  correct \d+\.\d %, wrong \d+\.\d %$", said, re.MULTILINE)
    assert "; talk 0, at most 1348.1/h" in said
    assert (
        "room: 0.00 h cannot show 0 false alarms an hour: where there is none, the rate is at most "
        "1348.1 (95 %)"
    ) in said
    higher = [entry["settings"]["talk_threshold"] for entry in entries]
    lines = [f"threshold of words where people talk: {each:g}" for each in higher if each]
    assert [line.strip() for line in said.splitlines() if "people talk" in line] == lines
    assert lines
    # What was chosen is what evaluate finds.
    command = ["--workdir", trained, *negatives, "--detector=calibrated", "--json", root / "n.json"]
    assert run_evaluate(*command, "--false_alarms_per_hour=0") == 0
    results = json.loads((root / "n.json").read_text())
    assert [result["alarms"] for result in results] == [0, 0]
    for result in results:
        assert result["detector"] | entries[1]["settings"] == result["detector"]
        assert result["detector"]["calibrated_for"] == 0
    assert run_evaluate(*command, "--false_alarms_per_hour=7") == 1
    assert "5000, 0, 10000; got 7" in capsys.readouterr().err
    assert run_calibrate(*stream, *negatives, "--notalk") == 0
    (plain,) = json.loads((trained / "detector.json").read_text())["detectors"]
    assert plain["settings"]["talk_threshold"] == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert run_calibrate(*stream) == 1
    assert "--workdir: expected a folder that can be written" in capsys.readouterr().err
    for flags, message in (
        ((asked.replace("5000", "some"), *negatives), "--false_alarms_per_hour: expected numbers"),
        (("--heard", root / "talk"), "--heard: expected it with --negatives"),
    ):
        assert run_calibrate(*stream, *flags) == 1
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_cache_gives_streams_and_negatives(root, trained, tmp_path, capsys):
    command = ["--workdir", trained, "--data", root / "cache"]
    assert run_calibrate(*command) == 0
    (about,) = json.loads((trained / "detector.json").read_text())["streams"]
    assert about["source"]["split"] == "validation"
    assert (about["source"]["background"], about["seconds"]) == ("noise", 1200)
    cache = write_toy_cache(tmp_path / "talks")
    talk = (3000 * np.random.default_rng(0).normal(size=64_000)).astype(np.int16)
    write_negatives(cache, [NegativeRow(talk, f"{i}.wav", "speech", i, False) for i in range(3)])
    assert run_calibrate("--workdir", trained, "--data", cache, "--false_alarms_per_hour=9e9") == 0
    found = json.loads((trained / "detector.json").read_text())
    assert [each["source"]["background"] for each in found["streams"]] == ["noise", "negatives"]
    assert found["negatives"]
    capsys.readouterr()
    for arguments in ([*command, "--stream", root / "validation.wav"], command[:2]):
        assert run_calibrate(*arguments) == 1
        assert "--stream, --data: expected one of them, got" in capsys.readouterr().err


def test_copy_of_a_packed_model_gets_detectors_of_its_own(root, tmp_path, capsys):
    packed, out = tmp_path / "packed", tmp_path / "room"
    write_packed(packed, STATIC)
    (packed / "README.md").write_text("# packed\n")
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    command = ["--workdir", packed, "--stream", root / "validation.wav"]
    command.append("--false_alarms_per_hour=200")
    assert run_calibrate(*command) == 1
    assert "packed model, to be read only" in capsys.readouterr().err
    assert run_calibrate(*command, "--out", out) == 0
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.keys() == before.keys() | {"detector.json"}
    assert [name for name in before if before[name] != after[name]] == ["README.md"]
    assert after["README.md"].startswith(b"These detectors were chosen anew")
    assert read_detector(out, json.loads(after["detector.json"])["step"], None)
    capsys.readouterr()
    for arguments, message in (
        ((*command, "--out", out), "--out: expected a new folder"),
        (
            ("--workdir", root / "run", *command[2:], "--out=a"),
            "--out: expected it with one",
        ),
    ):
        assert run_calibrate(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_read_detector_takes_the_rate_that_was_asked_for_first(tmp_path):
    entries = [
        {
            "cost_weight": 0.5,
            "false_alarms_per_hour_limit": rate,
            "settings": dataclasses.asdict(Detector(threshold=threshold)),
        }
        for rate, threshold in ((1.0, 0.8), (5.0, 0.6))
    ]
    (tmp_path / "detector.json").write_text(json.dumps({"step": 7, "detectors": entries}))
    assert read_detector(tmp_path, 7, 0.5)[0].threshold == 0.8
    assert read_detector(tmp_path, 7, 0.5, 5.0)[0].threshold == 0.6
    with pytest.raises(ValueError, match=r"one of the rates .* 1, 5; got 2"):
        read_detector(tmp_path, 7, 0.5, 2.0)


def test_read_detector_takes_the_nearest_price(tmp_path):
    entries = [
        {"cost_weight": price, "settings": dataclasses.asdict(Detector(threshold=threshold))}
        for price, threshold in ((0.1, 0.3), (1.0, 0.4), (10.0, 0.5))
    ]
    (tmp_path / "detector.json").write_text(json.dumps({"step": 7, "detectors": entries}))
    # Near as factors: 3 is closer to 1 than to 10, 3.3 to 10.
    for price, nearest in ((0.01, 0), (3.0, 1), (3.3, 2), (99, 2)):
        expected = Detector(**entries[nearest]["settings"]), entries[nearest]["cost_weight"]
        assert read_detector(tmp_path, 7, price) == expected
