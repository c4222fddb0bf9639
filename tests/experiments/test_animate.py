"""The animated architecture: its frames, and what is refused."""

from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from data_prep.command.cli import run
from experiments import animate
from experiments.animate import FRAME_MS, LAST_MS, frame_lines, title
from experiments.reporting.reading import read_run
from tests.helpers.image_runs import image_lines, write_image_run
from tests.helpers.runs import write_run


def make_gif(workdir: Path, out: Path) -> int:
    words = ["animate", "--workdir", str(workdir), "--out", str(out)]
    return run(animate.define_flags, animate.main, animate.__doc__ or "", words)


def test_animate_writes_a_frame_per_line_of_training(tmp_path: Path) -> None:
    write_image_run(tmp_path / "run")
    assert make_gif(tmp_path / "run", tmp_path / "a.gif") == 0
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (3, 0)
        durations, frames = [], set()
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            frames.add(gif.convert("RGB").tobytes())
    assert durations == [FRAME_MS, FRAME_MS, LAST_MS]
    assert len(frames) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "made_images.py", "run"]


def test_animate_of_a_run_of_audio(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    assert make_gif(tmp_path / "run", tmp_path / "run" / "a.gif") == 0
    with Image.open(tmp_path / "run" / "a.gif") as gif:
        assert gif.n_frames == 3


def test_frame_lines_are_spread_and_keep_the_ends(tmp_path: Path) -> None:
    net = write_image_run(tmp_path / "run")
    lines = image_lines(net, range(1, 201))
    steps = [line["step"] for line in frame_lines(lines)]
    assert len(steps) == 60
    assert (steps[0], steps[-1]) == (1, 200)
    gaps = {b - a for a, b in pairwise(steps)}
    assert gaps == {3, 4}
    assert {line["split"] for line in frame_lines(lines)} == {"training"}
    validation = [line for line in lines if line["split"] == "validation"]
    assert [line["step"] for line in frame_lines(validation[:2])] == [1, 2]
    assert frame_lines([{"step": 1, "split": "diverged"}]) == []


def test_title_says_step_accuracy_and_cost_in_its_unit(tmp_path: Path) -> None:
    write_image_run(tmp_path / "run", cost="params")
    found = read_run(tmp_path / "run", "mine")
    line = found.lines[0] | {"charged": found.charged.full / 2}
    text = title(found, line)
    assert text.startswith("mine, step  50 of 200: accuracy 60.0 %, ")
    assert text.endswith(" parameters (50 %)")
    del line["charged"]
    assert title(found, line).endswith(" MACs (88 %)")


@pytest.mark.parametrize(
    ("out", "message"),
    [("a.gif", "lines of training or validation"), ("a.png", "--out: expected the name of a .gif")],
)
def test_animate_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, message: str
) -> None:
    write_image_run(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert make_gif(tmp_path / "run", tmp_path / out) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
    assert not (tmp_path / out).exists()


def test_animate_refuses_a_folder_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_gif(tmp_path, tmp_path / "a.gif") == 1
    assert "expected a folder with a run" in capsys.readouterr().err
