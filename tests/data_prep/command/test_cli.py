"""How commands end when they are told to, by a signal or by a terminal that closes."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from data_prep.command.cli import run

# A command that keeps a temporary folder and answers each line it reads with the same line.
DRIVER = """
import os, sys
from pathlib import Path
from data_prep.command.atomic import new_folder
from data_prep.command.cli import run
if os.isatty(0):
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # a session's first terminal becomes its own
def body(values):
    with new_folder(Path(sys.argv[1]) / "out"):
        print("ready", flush=True)
        for line in sys.stdin:
            print(line, end="", flush=True)
sys.exit(run(lambda values: None, body, "", ["command"]))
"""


@pytest.fixture
def hang_up():
    """How SIGHUP is handled by processes that a test starts: these tests may run under nohup."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


def start(folder, **streams):
    command = [sys.executable, "-c", DRIVER, str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **streams)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_command_cleanly(tmp_path, hang_up, number):
    hang_up(signal.SIG_DFL)
    process = start(tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "interrupted: nothing was written\n"
    assert not list(tmp_path.iterdir())


def test_a_terminal_that_closes_ends_a_command_cleanly(tmp_path, hang_up):
    hang_up(signal.SIG_DFL)
    master, slave = os.openpty()
    process = start(tmp_path, stdin=slave, stdout=slave, start_new_session=True)
    os.close(slave)
    assert os.read(master, 100).startswith(b"ready")
    os.close(master)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == "interrupted: nothing was written\n"
    assert not list(tmp_path.iterdir())


def test_a_hang_up_that_is_ignored_stays_ignored(tmp_path, hang_up):
    hang_up(signal.SIG_IGN)
    process = start(tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.stdin.write("still here\n")
    process.stdin.flush()
    assert process.stdout.readline() == "still here\n"
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130


def run_failing(error):
    def body(values):
        raise error

    return run(lambda values: None, body, "", ["command"])


def test_a_fault_of_ours_is_one_line_and_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_failing(KeyError("a\nb")) == 1
    (trace,) = tmp_path.iterdir()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "error: a fault of sanas_jax, please report it: KeyError: 'a\\nb'; "
        f"the trace is in {trace}\n"
    )
    assert "Traceback" in trace.read_text()
    assert "raise error\nKeyError" in trace.read_text()


def test_a_fault_of_ours_without_a_place_for_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert run_failing(RuntimeError("two\nlines")) == 1
    assert "RuntimeError: two lines; the trace is in nowhere (No such" in capsys.readouterr().err


def test_too_little_memory_is_no_fault_of_ours(capsys):
    assert run_failing(MemoryError("Unable to allocate 1 EiB")) == 1
    assert capsys.readouterr().err == "error: not enough memory: Unable to allocate 1 EiB\n"


def test_names_that_a_stream_cannot_print_are_shown_as_codes(tmp_path):
    code = "import sys; from data_prep.command.cli import run\n" + (
        "def body(values): print('f\\xfcnf'); raise ValueError('a\\udcff.wav')\n"
        "sys.exit(run(lambda values: None, body, '', ['command']))"
    )
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True)
    assert done.returncode == 1
    assert done.stdout == b"f\\xfcnf\n"
    assert done.stderr == b"error: a\\udcff.wav\n"
