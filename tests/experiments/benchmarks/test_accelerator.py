"""An accelerator's day: its plan, its results, parts that fail or take too long; a rehearsal."""

import json
import sys
import time

import jax
import numpy as np
import pytest

from data_prep.speech.cache import SPLITS, open_cache
from experiments.benchmarks import accelerator
from experiments.benchmarks.day import commands, device, plan, process, results, steps
from experiments.benchmarks.day.commands import Day
from experiments.benchmarks.day.made_clips import WORDS, write_made_clips
from experiments.benchmarks.day.results import Teller
from experiments.benchmarks.day.scale import TOY
from experiments.benchmarks.harness import measure

PART = {part.name: part for part in plan.PARTS}


def main(*arguments):
    return accelerator.main(["prog", *arguments])


def lines_of(out):
    return results.read(out / "results.jsonl")


@pytest.fixture
def ends(monkeypatch):
    """Exit statuses of parts by name, and the names of those that were run."""
    statuses, ran = {}, []

    def run(command, log, seconds, environment):
        name = next((n for n in plan.NAMES if f"--part={n}" in command), command[2])
        ran.append(name)
        with open(log, "a") as file:
            file.write(f"noise\n{name} said this\n\n")
        return statuses.get(name, 0)

    monkeypatch.setattr(process, "run", run)
    return statuses, ran


def test_parts_come_in_order_of_worth():
    assert [part.name for part in plan.chosen(("update", "machine"))] == ["machine", "update"]
    assert plan.chosen(()) == list(plan.PARTS)
    assert sum(part.seconds for part in plan.PARTS) <= 600
    with pytest.raises(ValueError, match=r"--only: expected some of machine, .*, got magic"):
        plan.chosen(("magic",))


def test_a_part_has_its_time_or_does_not_begin():
    update = PART["update"]
    assert plan.time_for(update, update.seconds - 1) is None
    assert plan.time_for(update, update.seconds + 1) == update.seconds + 1
    assert plan.time_for(update, 1e6) == plan.LATE * update.seconds
    assert plan.time_for(PART["training"], 1e6) == 1e6


def test_tests_of_the_accelerator_exist():
    assert all((commands.ROOT / file).is_file() for file in (*plan.TESTS, *plan.TOY_TESTS))


def test_a_part_that_fails_is_written_and_the_next_begins(ends, tmp_path, capsys):
    statuses, ran = ends
    statuses["parity"] = 1
    out = tmp_path / "day"
    assert main(f"--out={out}", "--toy", "--only=machine,parity,update") == 1
    assert ran == ["machine", "parity", "update"]
    states = {name: results.state_of(lines_of(out), name)["state"] for name in ran}
    assert states == {"machine": "done", "parity": "failed", "update": "done"}
    assert results.state_of(lines_of(out), "parity")["why"] == "parity said this"
    assert "== parity (failed" in (out / "table.txt").read_text()
    error = capsys.readouterr().err
    assert error == "error: expected all to end well, got an error from parity\n"


def test_a_day_goes_on_where_it_was(ends, tmp_path, capsys):
    statuses, ran = ends
    statuses["update"] = None  # its time was over
    out = f"--out={tmp_path}"
    assert main(out, "--toy", "--only=machine,update") == 1
    statuses.clear()
    assert main(out, "--toy", "--only=machine,update") == 1
    assert "expected a new folder, or --resume" in capsys.readouterr().err
    assert main(out, "--only=machine,update", "--resume") == 1
    assert "expected what was asked before" in capsys.readouterr().err
    assert main(out, "--toy", "--only=machine,update", "--resume") == 0
    assert ran == ["machine", "update", "update"]
    assert "machine: done before" in capsys.readouterr().out


def test_training_may_be_cut(ends, tmp_path):
    statuses, _ = ends
    statuses["experiments.launch"] = None
    assert main(f"--out={tmp_path}", "--toy", "--only=training") == 0
    assert results.state_of(lines_of(tmp_path), "training")["state"] == "cut"
    assert len(open_cache(tmp_path / "cache").labels) == TOY.clips * (len(WORDS) + 5)


def test_what_does_not_fit_is_left_out(ends, tmp_path, capsys):
    _, ran = ends
    minutes = (PART["machine"].seconds + process.GRACE_SECONDS + 5) / 60
    assert main(f"--out={tmp_path}", f"--minutes={minutes}", "--only=machine,update") == 0
    assert ran == ["machine"]
    assert "no time for update: --resume goes on" in capsys.readouterr().out


def test_a_package_that_is_missing_is_named(ends, tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "missing_packages", lambda needs: ["soundfile"])
    assert main(f"--out={tmp_path}", "--toy", "--only=evaluation") == 1
    why = results.state_of(lines_of(tmp_path), "evaluation")["why"]
    assert why == "expected soundfile to be installed, got none"
    assert commands.missing_packages(("json", "no_such_package")) == ["no_such_package"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only=magic",), "--only"),
        (("--data=/no/such/cache",), "/no/such/cache"),
        (("--train=/no/such/config.py",), "--train: expected a config file"),
        (("--minutes=-1",), "minutes"),
        (("--part=tests",), "part"),
    ],
)
def test_bad_input_is_one_line(ends, tmp_path, capsys, arguments, message):
    assert main(f"--out={tmp_path / 'new'}", *arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "new").exists()


def test_a_cpu_is_no_accelerator():
    device.check_accelerator(toy=True)
    with pytest.raises(ValueError, match="expected an accelerator, got a CPU only"):
        device.check_accelerator(toy=False)


def test_a_process_has_its_time_only(tmp_path):
    log = tmp_path / "log"
    assert process.run([sys.executable, "-c", "raise SystemExit(3)"], log, 60, {}) == 3
    begin = time.monotonic()
    assert process.run(["sh", "-c", "echo here; sleep 300; true"], log, 0.5, {}) is None
    assert time.monotonic() - begin < 60
    assert process.last_line(log, 0) == "here"
    status = process.run(["sh", "-c", "echo $LIGHT"], log, 60, {"LIGHT": "green"})
    assert (status, process.last_line(log, 0)) == (0, "green")


def test_half_a_line_spoils_nothing(tmp_path):
    path = tmp_path / "results.jsonl"
    results.add(path, asked={})
    with open(path, "a") as file:
        file.write('{"part": "update", "row": "hal')
    results.add(path, part="update", row="whole", seconds=1)
    assert [list(line) for line in results.read(path)] == [["asked"], ["part", "row", "seconds"]]
    path.write_text('{"something": "else"}\n')
    with pytest.raises(ValueError, match=r"expected results of benchmarks\.accelerator"):
        results.read(path)


def test_rows_are_found_once_and_failures_again(tmp_path, capsys):
    path, found = tmp_path / "results.jsonl", []

    def good():
        found.append("good")
        return {"seconds": 0.002, "share_of_matmul": 0.4}

    def bad():
        found.append("bad")
        raise RuntimeError("out of\nmemory")

    for _ in range(2):
        tell = Teller(path, "update")
        assert tell("good", good)["seconds"] == 0.002
        assert tell("bad", bad) is None
        assert tell.failed == ["bad"]
    assert found == ["good", "bad", "bad"]
    text = results.table(results.read(path), plan.NAMES)
    assert [line.split() for line in text.splitlines()] == [
        ["==", "update", "(going", "on)"],
        ["ms", "of", "matmul"],
        ["good", "2", "40.0", "%"],
        ["bad", "–", "–", "failed:", "out", "of", "memory"],
    ]


def test_what_tests_and_training_leave_becomes_rows(tmp_path):
    day = Day(tmp_path, True, tmp_path / "cache", True, "c.py", ())
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite tests="4" failures="1" errors="0" skipped="1">'
        '<testcase classname="a" name="fine"/><testcase classname="a" name="wrong"><failure/>'
        "</testcase></testsuite></testsuites>"
    )
    (tmp_path / "training").mkdir()
    line = {"loss": 1.0, "frame_accuracy": 0.5, "macs_per_frame": 7}
    texts = [json.dumps({"split": "training", "step": step} | line) for step in (10, 20)]
    (tmp_path / "training" / "metrics.jsonl").write_text("\n".join([*texts, '{"split": "tr']))
    for _ in range(2):
        commands.collect(PART["training"], day)
    commands.collect(PART["tests"], day)
    rows = [line for line in lines_of(tmp_path) if "row" in line]
    assert [(row["part"], row.get("step")) for row in rows] == [("training", 20), ("tests", None)]
    assert (rows[1]["passed"], rows[1]["failed_names"]) == (2, ["a.wrong"])
    assert not (tmp_path / "tests.xml").exists()


def test_tests_compute_where_jax_does_by_itself(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    found = commands.environment_of(PART["tests"])
    assert found["JAX_PLATFORMS"] == ""  # which tests/conftest.py leaves as it is
    assert found["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert "JAX_PLATFORMS" not in commands.environment_of(PART["update"])


def test_made_clips_are_words_of_their_own(tmp_path):
    write_made_clips(tmp_path / "cache", 10)
    cache = open_cache(tmp_path / "cache")
    assert cache.classes[2:] == WORDS
    assert np.bincount(cache.labels).tolist() == [0, 50, *[10] * 10]
    assert np.bincount(cache.splits).tolist() == [8 * 15, 15, 15]
    assert len(SPLITS) == 3
    highest = np.flatnonzero(cache.mel.any(0)).max() * 16_000 / 480
    assert 7500 < highest <= cache.frontend["fmax"] == 7600
    heard = np.abs(cache.samples.astype(float)).max(1)
    assert 1000 < heard.min() <= heard.max() < 32767


def test_limits_multiply_in_the_precision_asked_for():
    assert measure.limits("bfloat16")[measure.MATMUL].run().dtype == "bfloat16"
    with pytest.raises(KeyError):
        measure.limits("half")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "cache"
    write_made_clips(folder, TOY.clips)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", plan.HERE)
def test_parts_run_at_toy_size(name, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "PROBES", 1)
    monkeypatch.setattr("experiments.benchmarks.harness.machine.prepare", lambda *_, **__: None)
    assert main(f"--part={name}", f"--out={tmp_path}", f"--data={clips}", "--toy") == 0
    rows = results.rows_of(lines_of(tmp_path), name)
    assert rows
    assert not any("error" in row for row in rows.values())
    if name == "parity":  # both are this CPU
        assert len(rows["float32"]["tensors"]) > 10
        assert rows["float32"]["difference"] == 0
    if name == "budgets":
        assert all(0 < row["share_of_matmul"] < 1 for row in rows.values())
        assert rows["2 in turn"]["macs"] == rows["2 side by side"]["macs"]
    if name == "dispatch":
        assert all(0 <= row["host_idle"] < 1 for row in rows.values())
    if name == "evaluation":
        assert list(rows) == ["9 prices, 0.00556 h"]


@pytest.mark.slow
def test_a_wrong_gradient_is_found_out(tmp_path, monkeypatch):
    """The device's is that of another batch."""
    found = iter((0.0, 1.0))

    def of_another(given, device):
        state, batch, *rest = given
        return state, batch._replace(features=batch.features + next(found)), *rest

    monkeypatch.setattr(jax, "device_put", of_another)
    tell = Teller(tmp_path / "results.jsonl", "parity")
    with pytest.raises(ValueError, match="the device's gradients differ from the CPU's"):
        steps.parity(TOY, tell)


@pytest.mark.slow
def test_a_rehearsal_ends_well(clips, tmp_path, capfd):
    out = tmp_path / "day"
    asked = (f"--out={out}", "--toy", f"--data={clips}", "--only=tests,training")
    assert main(*asked) == 0, (out / "log.txt").read_text()[-2000:]
    text = (out / "table.txt").read_text()
    assert "== tests (done" in text
    assert "step 4" in text
    assert (out / "training" / "checkpoints").is_dir()
    assert main(*asked, "--resume") == 0
    assert "training: done before" in capfd.readouterr().out
