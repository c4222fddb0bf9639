"""Where results of streams lie, and which detector they are of."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.runs.stored_results import (
    DETECTORS,
    ImageResult,
    StreamResult,
    detector_of,
    result_files,
    result_path,
    suffix_of,
)
from tests.helpers.image_runs import write_image_run, write_tested
from tests.helpers.runs import CALIBRATED, write_evaluation, write_run


def result(stream: str = "town", price: float | None = None, **changes: Any) -> dict[str, Any]:
    return {"stream": stream, "cost_weight": price, "detector": {"kind": "default"}} | changes


def write(workdir: Path, name: str, content: dict[str, Any]) -> Path:
    path = workdir / "evaluations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_result_path_differs_for_every_stream_price_and_detector() -> None:
    found = [
        result_path(Path("w"), stream, price, detector)
        for stream in ("town", "wood")
        for price in (None, 0.5, 0.51)
        for detector in DETECTORS
    ]
    assert len(set(found)) == 12
    assert found[:2] == [
        Path("w/evaluations/town.json"),
        Path("w/evaluations/calibrated/town.json"),
    ]
    assert found[3] == Path("w/evaluations/calibrated/town@0.5.json")
    of_rate = result_path(Path("w"), "town", 0.5, "calibrated", 20.0)
    assert of_rate == Path("w/evaluations/calibrated_20/town@0.5.json")


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
    # One for a named rate lay with the others.
    for_five = {"detector": {"kind": "calibrated", "calibrated_for": 5.0}}
    old = write(tmp_path, "calibrated/wood@0.5", result("wood", 0.5, **for_five))
    files["calibrated_5/wood@0.5"] = old
    assert result_files(tmp_path) == files
    new = write(tmp_path, "calibrated_5/wood@0.5", result("wood", 0.5, **for_five))
    files["calibrated_5/wood@0.5"] = new
    assert result_files(tmp_path) == files


def test_result_files_of_a_run_without_any_and_beside_clips(tmp_path: Path) -> None:
    assert result_files(tmp_path) == {}
    write(tmp_path, "clips/town", {})
    assert result_files(tmp_path) == {}


@pytest.mark.parametrize(
    "detector",
    [{"kind": "better"}, {}, None, {"kind": "calibrated", "calibrated_for": "5"}],
)
def test_a_result_of_an_unknown_detector_is_refused(tmp_path: Path, detector: Any) -> None:
    file = write(tmp_path, "town", result(detector=detector))
    with pytest.raises(ValueError, match=re.escape(f"{file}: expected a result of evaluate")):
        result_files(tmp_path)


def test_suffix_of_says_the_price_and_a_detector_that_is_not_the_protocols() -> None:
    assert suffix_of(None) == ""
    assert suffix_of(0.051) == " at λ=0.051"
    assert suffix_of(0.051, "calibrated") == " at λ=0.051, calibrated"
    assert suffix_of(0.051, "calibrated", 5.0) == " at λ=0.051, calibrated for 5/h"


def test_a_stream_result_is_its_json(tmp_path: Path) -> None:
    old = write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    found = StreamResult.from_json(old | {"of_later_code": 1})
    assert found.to_json() == old
    assert (found.detector_kind, found.suffix, found.macs_per_frame_incremental) == (
        "default",
        "",
        None,
    )
    assert StreamResult.from_json(old | CALIBRATED).suffix == ", calibrated"
    bare = {k: v for k, v in old.items() if k not in ("cost_weight", "budget", "roc")}
    assert StreamResult.from_json(bare) == dataclasses.replace(found, roc=None)
    del bare["tolerance_ms"]
    with pytest.raises(KeyError, match="tolerance_ms"):
        StreamResult.from_json(bare)
    with pytest.raises(TypeError):
        StreamResult.from_json([])  # type: ignore[arg-type]


def test_an_image_result_is_its_json(tmp_path: Path) -> None:
    write_image_run(tmp_path / "run")
    known = write_tested(tmp_path / "run")
    assert ImageResult.from_json(known | {"of_later_code": 1}).to_json() == known
    pixels = known | {"mean_iou_pct": 50.0}
    assert ImageResult.from_json(pixels).to_json() == pixels
    with pytest.raises(ValueError, match="unknown split 'all'"):
        ImageResult.from_json(known | {"split": "all"})
    del known["budget"]
    with pytest.raises(KeyError, match="budget"):
        ImageResult.from_json(known)
