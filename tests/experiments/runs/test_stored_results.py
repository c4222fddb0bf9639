"""Where results of streams lie, and which detector they are of."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.runs.stored_results import detector_of, result_files, result_path, told
from tests.helpers.runs import CALIBRATED


def result(stream: str = "town", price: float | None = None, **changes: Any) -> dict[str, Any]:
    return {"stream": stream, "cost_weight": price, "detector": {"kind": "default"}} | changes


def write(workdir: Path, name: str, content: dict[str, Any]) -> Path:
    path = workdir / "evaluations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_result_path_differs_for_every_stream_price_and_detector() -> None:
    found = [
        result_path(Path("w"), result(stream, price, **detector))
        for stream in ("town", "wood")
        for price in (None, 0.5, 0.51)
        for detector in ({}, CALIBRATED)
    ]
    assert len(set(found)) == 12
    assert found[:2] == [
        Path("w/evaluations/town.json"),
        Path("w/evaluations/calibrated/town.json"),
    ]
    assert found[3] == Path("w/evaluations/calibrated/town@0.5.json")


def test_result_files_takes_a_result_where_older_code_put_it(tmp_path: Path) -> None:
    old = {"stream": "sea", "cost_weight": None}
    files = {
        "calibrated/town@0.5": write(tmp_path, "town@0.5", result("town", 0.5, **CALIBRATED)),
        "wood": write(tmp_path, "wood", result("wood")),
        "sea": write(tmp_path, "sea", old),
    }
    assert result_files(tmp_path) == files
    assert detector_of(old) == "default"
    # The same again, where it is kept now: the old one no longer counts.
    files["calibrated/town@0.5"] = write(
        tmp_path, "calibrated/town@0.5", result("town", 0.5, **CALIBRATED)
    )
    assert result_files(tmp_path) == files


def test_result_files_of_a_run_without_any_and_beside_clips(tmp_path: Path) -> None:
    assert result_files(tmp_path) == {}
    write(tmp_path, "clips/town", {})
    assert result_files(tmp_path) == {}


@pytest.mark.parametrize("detector", [{"kind": "better"}, {}, None])
def test_a_result_of_an_unknown_detector_is_refused(tmp_path: Path, detector: Any) -> None:
    file = write(tmp_path, "town", result(detector=detector))
    with pytest.raises(ValueError, match=re.escape(f"{file}: expected a result of evaluate")):
        result_files(tmp_path)


def test_told_says_the_price_and_a_detector_that_is_not_the_protocols() -> None:
    assert told(result()) == ""
    assert told(result(price=0.051)) == " at λ=0.051"
    assert told(result(price=0.051, **CALIBRATED)) == " at λ=0.051, calibrated"
    assert told({}) == ""
