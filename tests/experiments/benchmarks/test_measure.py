"""What the benchmarks share: timing in turn, limits, programs, results as JSON, comparison."""

import json
import time

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks.harness import compare, entry, measure, programs, records
from experiments.benchmarks.harness.entry import Settings
from experiments.benchmarks.harness.measure import Side

RATES = {"macs_per_second": 100.0, "bytes_per_second": 1000.0}


def make_result(seconds=2.0, **more):
    side = Side(lambda: None, macs=50, moved=400, compile_seconds=3.0, memory_bytes=2_000_000)
    rows = {
        "ours": measure.row(side, [seconds] * 3, [seconds] * 3, "ours", RATES),
        "peer": measure.row(Side(lambda: None), [4.0] * 3, [seconds] * 3, "ours", RATES),
    }
    settings = Settings(2, 3).asked | {"batch": 64}
    return records.result("what", settings, {"rows": rows, "limits": RATES}, **more)


def test_time_in_turn_alternates():
    order = []
    times = measure.time_in_turn(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2
    )
    assert order == ["a", "b"] * 3
    assert [len(clock[name]) for clock in times for name in "ab"] == [2] * 4


def test_time_in_turn_tells_waiting_from_computing():
    times = measure.time_in_turn({"sleep": lambda: time.sleep(0.02)}, 2)
    assert min(times.wall["sleep"]) >= 0.02
    assert max(times.cpu["sleep"]) < 0.02


def test_row_by_hand():
    side = Side(lambda: None, macs=50, moved=400)
    row = measure.row(side, [1.0, 5.0, 2.0], [2.0, 2.0, 8.0], "base", RATES)
    assert row["seconds"] == 2
    assert row["ratio"] == 1
    assert row["ratio_range"] == [0.25, 2.5]
    assert (row["macs_per_second"], row["share_of_matmul"]) == (25, 0.25)
    assert (row["bytes_per_second"], row["share_of_memory"]) == (200, 0.2)
    assert "compile_seconds" not in row


def test_measure_compares_with_the_first_or_the_base(monkeypatch):
    monkeypatch.setattr(
        measure,
        "limits",
        lambda precision: dict.fromkeys(
            ("limit: matmul", "limit: memory"), Side(lambda: time.sleep(0.001), macs=10, moved=10)
        ),
    )
    sides = {
        "first": Side(lambda: time.sleep(0.01)),
        "slow": Side(lambda: time.sleep(0.03)),
        "other": Side(lambda: time.sleep(0.03), base="slow"),
    }
    found = measure.measure(sides, 3)
    assert list(found["rows"]) == list(sides)
    assert found["rows"]["first"]["ratio"] == 1
    assert found["rows"]["slow"]["ratio"] > 2
    assert found["rows"]["other"]["ratio"] < 2
    assert 0 < found["limits"]["macs_per_second"] < 10_000


def test_limits_are_those_of_a_machine():
    rates = measure.measure_limits(1)
    assert 1e8 < rates["macs_per_second"] < 1e16
    assert 1e8 < rates["bytes_per_second"] < 1e14


def test_limits_take_the_fastest_round():
    probes = {
        measure.MATMUL: Side(lambda: None, macs=100),
        measure.MEMORY: Side(lambda: None, moved=60),
    }
    matmul, memory = measure.MATMUL, measure.MEMORY
    wall = {f"{matmul} 0": [4.0, 2.0], f"{matmul} 1": [5.0, 5.0], f"{memory} 0": [6.0, 3.0]}
    rates = measure.rates_of(probes, wall | {"ours": [0.1]})
    assert rates == {"macs_per_second": 50, "bytes_per_second": 20}


def test_build_counts_time_and_memory():
    x = jnp.ones((100, 50))
    plain = programs.build(jax.jit(lambda x: x + 1), x)
    donated = programs.build(jax.jit(lambda x: x + 1, donate_argnums=0), x)
    assert plain.compile_seconds > 0
    assert plain.memory_bytes == 2 * x.nbytes
    assert donated.memory_bytes == x.nbytes
    assert plain.on(x)().sum() == 10_000


@pytest.mark.parametrize("error", [0.2, float("nan")])
def test_hold_names_what_differs(error):
    measure.hold({"fine": 0.05, "equal": 0.0}, 0.1, "they differ")
    with pytest.raises(ValueError, match=r"they differ: expected logits within 0\.1, got"):
        measure.hold({"fine": 0.05, "logits": error}, 0.1, "they differ")


def test_results_survive_a_file(tmp_path):
    found = json.loads(json.dumps({"evaluation": make_result()}))
    records.write(tmp_path / "out.json", found)
    assert records.read(tmp_path / "out.json") == found
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected results of benchmarks"),
        ('{"benchmarks": {"evaluation": 1}}', "expected a result for 'evaluation'"),
        ('{"benchmarks": {"evaluation": {"rows": {}}}}', "got none of its .*'limits'"),
    ],
)
def test_read_refuses_another_file(tmp_path, text, message):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        records.read(tmp_path / "old.json")


@pytest.mark.parametrize("row", [3, {"ratio": 1}, {"seconds": "fast"}])
def test_read_refuses_rows_without_seconds(tmp_path, row):
    result = make_result() | {"rows": {"ours": row}}
    (tmp_path / "old.json").write_text(json.dumps({"benchmarks": {"evaluation": result}}))
    with pytest.raises(ValueError, match="expected seconds of 'evaluation', 'ours'"):
        records.read(tmp_path / "old.json")


def test_table_shows_what_is_known():
    text = records.table(make_result(agreement={"logits": 1e-6}, notes=["PyTorch, which"]))
    ours, peer = (line.split() for line in text.splitlines() if line.startswith(("ours", "peer")))
    assert ours[-8:] == ["0.0", "25%", "0.0", "20%", "3.00", "s", "2.0", "MB"]
    assert peer[:4] == ["peer", "4", "–", "2.00"]
    assert peer[-7:-6] == ["–"]  # of CPU time nothing is known
    assert peer[-6:] == ["–"] * 6
    assert "logits 1.0e-06" in text
    assert "left out: PyTorch, which" in text


def cells(text, label):
    return next(line for line in text.splitlines() if line.startswith(label)).split()[1:]


def test_compare_is_new_over_old():
    old, new = make_result(2.0), make_result(1.0)
    for result, theirs in ((old, 6.0), (new, 3.0)):
        result["rows"]["ours"]["cpu_seconds"] = 2.0
        result["rows"]["peer"]["cpu_seconds"] = theirs
    assert "3.00" in cells(records.table(old), "peer")
    text = compare.compare({"evaluation": old}, {"evaluation": new})
    assert cells(text, "ours") == ["1.00", "1.00", "2.00", "2.00", "0.50", "1.00", "1.00"]
    assert cells(text, "peer") == ["2.00", "0.50", "–", "–", "1.00", "–", "–"]
    assert "differ" not in text


def test_compare_says_what_does_not_compare():
    old, new = make_result(), make_result()
    new["machine"] = old["machine"] | {"processor": "another"}
    new["versions"] = old["versions"] | {"jax": "9.9"}
    del old["rows"]["peer"]
    new["rows"].pop("ours")
    text = compare.compare({"a": old, "gone": old}, {"a": new, "b": new})
    assert "of two machines only ratios and shares" in text
    assert f"jax {old['versions']['jax']} → 9.9" in text
    assert "b: not in the old file" in text
    assert "gone: in the old file only" in text
    assert cells(text, "peer") == ["not", "in", "the", "old", "file"]
    assert cells(text, "ours") == ["in", "the", "old", "file", "only"]


def test_compare_refuses_other_settings():
    other = make_result()
    other["settings"] = other["settings"] | {"batch": 8}
    text = compare.compare({"a": other}, {"a": make_result()})
    assert "a: not compared, since the settings differ: batch 8 → 64" in text
    assert "ours" not in text


def run_entry(monkeypatch, argv):
    monkeypatch.setattr(entry.machine, "prepare", lambda device, threads, **rest: None)
    return entry.main(
        "doc", "made_up", lambda settings: make_result(float(settings.repeats)), argv, repeats=4
    )


def test_command_writes_and_compares(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    assert run_entry(monkeypatch, ["prog", f"--json={out}"]) == 0
    assert records.read(out)["made_up"]["rows"]["ours"]["seconds"] == 4
    assert run_entry(monkeypatch, ["prog", "--quick", f"--compare={out}"]) == 0
    assert cells(capsys.readouterr().out.split("new / old")[1], "ours")[4] == "0.50"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--threads=100000", "--threads: expected at most"),
        ("--repeats=0", "repeats"),
        ("--device=abacus", "device"),
        ("--json=/no/such/folder/out.json", "--json: expected a file in a folder that exists"),
        ("--compare=/no/such/file.json", "--compare: expected a file, got"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, capsys, argument, message):
    assert run_entry(monkeypatch, ["prog", argument]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
