import io
import sys

import pytest

from data_prep.command import progress
from data_prep.command.progress import Progress, counted, print_above


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that passes as a test says."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_log_has_a_line_every_ten_seconds_and_a_last_one(clock, capsys):
    with Progress(1000, "step", "training", initial=100) as shown:
        for third in range(1, 91):
            clock.now = 100 + third / 3
            shown.add(10)
            shown.show_beside(f"loss {third}")
    assert capsys.readouterr().err.splitlines() == [
        "training: step 400 of 1,000, 30 a second, 00:20 left, loss 29",
        "training: step 700 of 1,000, 30 a second, 00:10 left, loss 59",
        "training: step 1,000 of 1,000, 30 a second, in 00:30, loss 90",
    ]


def test_a_log_says_hours(clock, capsys):
    with Progress(36, "file") as shown:
        clock.now += 1000
        shown.add(5)
    assert capsys.readouterr().err == "file 5 of 36, 0.005 a second, 1:43:20 left\n"


@pytest.mark.parametrize(
    ("done", "seconds", "lines"),
    [(3, 10, 1), (3, 9, 0), (2, 10, 0)],
    ids=["done", "short", "given up"],
)
def test_a_log_has_one_last_line_of_long_work_that_is_done(clock, capsys, done, seconds, lines):
    with Progress(3, "step") as shown:
        shown.add(done)
        clock.now += seconds
    shown.close()
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_silent_log_stays_silent(clock, capsys):
    with Progress(2, "step", silent=True) as shown:
        for _ in range(2):
            clock.now += 60
            shown.add()
    assert capsys.readouterr().err == ""


def test_counted_gives_the_items_and_counts_what_was_done_with_them(clock, capsys):
    seen = []
    for item in counted(["a", "b", "c"], "voice"):
        clock.now += 20
        seen.append(item)
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        "voice 1 of 3, 0.05 a second, 00:40 left",
        "voice 2 of 3, 0.05 a second, 00:20 left",
        "voice 3 of 3, 0.05 a second, in 01:00",
    ]


def test_a_terminal_has_a_bar_and_lines_above_it(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    with Progress(3, "step", "training") as shown:
        shown.add(2)
        print_above("step 2: saved")
        shown.add()
        shown.show_beside("loss 0.5")
    text = terminal.getvalue()
    assert "step 2: saved\n" in text
    last = text.rstrip("\n").split("\r")[-1]
    assert last.startswith("training: 100%")
    assert "3/3" in last
    assert "loss 0.5" in last
    assert "\n" not in text.replace("step 2: saved\n", "").rstrip("\n")


def test_print_above_in_a_log_is_a_line_on_stdout(capsys):
    with Progress(3, "step"):
        print_above("step 2: saved")
    assert capsys.readouterr() == ("step 2: saved\n", "")
