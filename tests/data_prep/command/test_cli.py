"""How commands end when they are told to, by a signal or by a terminal that closes."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from absl import flags

from data_prep.command.atomic import write_json
from data_prep.command.cli import one_line, run

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


def test_what_was_written_is_said_of_an_interrupt(capsys, tmp_path):
    def written(names):
        def body(values):
            for name in names:
                write_json(tmp_path / name, 1)
            raise KeyboardInterrupt

        assert run(lambda values: None, body, "", ["command"]) == 130
        return capsys.readouterr().err

    assert written([]) == "interrupted: nothing was written\n"
    assert written(["a"]) == f"interrupted: {tmp_path / 'a'} had been written\n"
    assert written(["a", "b"]) == f"interrupted: {tmp_path / 'b'} and 1 more had been written\n"
    assert written([]) == "interrupted: nothing was written\n"


def test_errors_of_shutil_are_a_line():
    trees = shutil.Error([("a", "b", "No space left"), ("c", "d", "No space left")])
    assert one_line(trees) == "No space left: a"
    assert one_line(shutil.SameFileError("a and b are one")) == "a and b are one"


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


def ended_of(code, streams):
    """Status and errors of a command of which `code` is the body, its output as `streams` say."""
    text = (
        "import sys; from data_prep.command.cli import run\n"
        f"def body(values): {code}\n"
        "sys.exit(run(lambda values: None, body, 'doc', ['command', *sys.argv[1:]]))"
    )
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", text, *streams.pop("argv", [])],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
        **streams,
    )
    if process.stdout is not None:  # a reader that leaves
        process.stdout.close()
    _, error = process.communicate(timeout=60)
    return process.returncode, error


@pytest.mark.parametrize("code", ["print('a')", "print('a'); raise ValueError('b')"])
def test_an_output_that_takes_nothing_is_a_line(code):
    with open("/dev/full", "w") as full:
        status, error = ended_of(code, {"stdout": full})
    assert status == 1
    said = "b" if "raise" in code else "No space left on device"
    assert error == f"error: {said}\n"


def test_a_reader_that_leaves_is_a_line_and_of_help_none():
    code = "sys.stdin.read(); print('a')"
    streams = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    wait = f"import time; time.sleep(0.5); {code}"
    assert ended_of(wait, dict(streams)) == (
        1,
        "error: standard output was closed before the command was done\n",
    )
    assert ended_of(code, {**streams, "argv": ["--help"]}) == (0, "")


def test_no_output_at_all_is_no_error():
    close = "import os; sys.stdout.close()"
    assert ended_of(close, {"stdout": subprocess.DEVNULL}) == (0, "")


def test_flags_that_are_missing_are_named_on_one_line(capsys):
    def define(values):
        for name in ("data", "out"):
            flags.DEFINE_string(name, None, "", required=True, flag_values=values)

    assert run(define, lambda values: None, "", ["command"]) == 1
    assert capsys.readouterr().err == "error: --data, --out: expected a value, got none\n"
    assert run(define, lambda values: None, "", ["command", "--out=x"]) == 1
    assert capsys.readouterr().err == "error: --data: expected a value, got none\n"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_flags_are_finite(capsys, value):
    def define(values):
        flags.DEFINE_float("volume", 1.0, "", lower_bound=0, flag_values=values)

    assert run(define, lambda values: None, "", ["command", f"--volume={value}"]) == 1
    err = capsys.readouterr().err
    assert "--volume" in err
    assert err.count("\n") == 1
    assert run(define, lambda values: None, "", ["command", "--volume=1e30"]) == 0
