"""The figures of a model's card, from what the commands left in a run's folder."""

import json
from pathlib import Path

from experiments.runs.model_card import (
    Found,
    clip_lines,
    negative_lines,
    read_found,
    stream_lines,
    word_lines,
)
from experiments.runs.stored_negatives import save_negative_result
from tests.experiments.reporting.test_negatives import negative_result
from tests.helpers.runs import write_evaluation, write_run

CLIPS = {"data": "c", "split": "testing", "num_clips": 321, "benchmark_accuracy_pct": 88}
CLIPS |= {"step": 150, "macs_per_clip_with_controller": 1_234_000}


def save_clips(folder: Path, name: str, **own: object) -> None:
    clips = folder / "evaluations" / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    (clips / f"{name}.json").write_text(json.dumps(CLIPS | own))


def test_without_figures_there_are_no_tables(tmp_path: Path) -> None:
    assert read_found(tmp_path, 150) == Found([], [], [], 0)
    for lines in (stream_lines, negative_lines, clip_lines, word_lines):
        assert lines([]) == []


def test_what_is_of_another_step_is_counted_only(tmp_path: Path) -> None:
    edge_macs = write_run(tmp_path)
    for step in (100, 150):
        write_evaluation(tmp_path, edge_macs, stream=f"at {step}", step=step)
        save_negative_result(tmp_path, negative_result(negatives=f"at {step}", step=step))
        save_clips(tmp_path, f"{step}", data=f"at {step}", step=step, cost_weight=None)
    found = read_found(tmp_path, 150)
    assert [r.stream for r in found.streams] == ["at 150"]
    assert [r.negatives for r in found.negatives] == ["at 150"]
    assert [r["data"] for r in found.clips] == ["at 150"]
    assert found.left_out == 3


def test_clips_by_price_then_noise_then_word(tmp_path: Path) -> None:
    right = {"yes": 90.04, "no": 80.0}
    for n, (price, noise, words) in enumerate(
        [(0.7, None, {}), (0.05, 5.0, right), (0.05, 20.0, {"up": 7.0}), (0.05, None, right)]
    ):
        own = {"cost_weight": price, "snr_db": noise, "accuracy_pct": n + 0.125}
        save_clips(tmp_path, f"{n}", **own, accuracy_pct_by_class=words)
    save_clips(tmp_path, "older", split="validation", cost_weight=None, accuracy_pct=1)
    found = read_found(tmp_path, 150).clips
    head, _, *rows, last = clip_lines(found)
    assert head.startswith("| clips | number |")
    assert last == ""
    assert rows == [
        "| c, testing at λ=0.05 | 321 | 3.12 | 88.00 | 1.234M |",
        "| c, testing, noise at 20 dB at λ=0.05 | 321 | 2.12 | 88.00 | 1.234M |",
        "| c, testing, noise at 5 dB at λ=0.05 | 321 | 1.12 | 88.00 | 1.234M |",
        "| c, testing at λ=0.7 | 321 | 0.12 | 88.00 | 1.234M |",
        "| c, validation | 321 | 1.00 | 88.00 | 1.234M |",
    ]
    head, _, *rows, _ = word_lines(found)
    assert head == "| clips, accuracy % | yes | no | up |"
    assert rows[0] == "| c, testing at λ=0.05 | 90.0 | 80.0 | – |"
    assert rows[1] == "| c, testing, noise at 20 dB at λ=0.05 | – | – | 7.0 |"
    assert rows[-1] == "| c, validation | – | – | – |"


def test_negatives_have_bounds(tmp_path: Path) -> None:
    none = negative_result(alarms=0, alarms_per_hour=0.0, alarms_per_hour_high=1.5)
    rows = negative_lines([negative_result(cost_weight=0.1), none])[2:-1]
    assert rows == [
        "| speech at λ=0.1 | 120.0 | 4 | 2.0 | 0.5 to 5.1 |",
        "| speech | 120.0 | 0 | 0.0 | at most 1.5 |",
    ]
