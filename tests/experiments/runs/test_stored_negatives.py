"""Where results on audio without words lie: none takes the place of another's."""

import json
from pathlib import Path

import pytest

from experiments.runs.stored_negatives import read_negative_results, save_negative_result
from tests.experiments.reporting.test_negatives import negative_result


def for_rate(rate: float) -> dict[str, object]:
    return {"kind": "calibrated", "calibrated_for": rate}


def test_splits_and_rates_are_kept_side_by_side(tmp_path: Path) -> None:
    results = [
        negative_result(split="testing"),
        negative_result(split="validation"),
        negative_result(detector={"kind": "calibrated"}),
        negative_result(detector=for_rate(5.0), cost_weight=0.5),
        negative_result(detector=for_rate(20), cost_weight=0.5),
    ]
    for result in results:
        save_negative_result(tmp_path, result)
    assert read_negative_results(tmp_path) == results
    folder = tmp_path / "evaluations" / "negatives"
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.json")) == [
        "calibrated/speech.json",
        "calibrated_20/speech@0.5.json",
        "calibrated_5/speech@0.5.json",
        "default/speech.json",
        "default/validation/speech.json",
    ]
    assert [result.shown + result.suffix for result in results] == [
        "speech",
        "speech, validation",
        "speech, calibrated",
        "speech at λ=0.5, calibrated for 5/h",
        "speech at λ=0.5, calibrated for 20/h",
    ]


def test_a_result_where_older_code_put_it_is_read_until_there_is_a_new_one(tmp_path: Path) -> None:
    old = negative_result(detector=for_rate(5), alarms=9)
    file = tmp_path / "evaluations" / "negatives" / "calibrated" / "speech.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(old.to_json()))
    assert read_negative_results(tmp_path) == [old]
    new = negative_result(detector=for_rate(5), split="testing", alarms=1)
    save_negative_result(tmp_path, new)
    assert read_negative_results(tmp_path) == [new]
    file.write_text(json.dumps(old.to_json() | {"split": "all"}))
    with pytest.raises(ValueError, match=r"speech\.json: expected a result of evaluate"):
        read_negative_results(tmp_path)
