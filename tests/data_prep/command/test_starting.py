"""Ctrl-C while a command is imported, in processes of their own."""

import signal
import subprocess
import sys

import pytest

DRIVER = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.{before})
sys.argv = [{name!r}]
import experiments
from data_prep.command import starting
{then}
os.kill(os.getpid(), signal.SIGINT)
print("alive")
"""


def run(name, then="", before="default_int_handler"):
    code = DRIVER.format(name=name, then=then, before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_command_that_is_being_imported_ends_without_a_word():
    assert run("-m") == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("name", "then"), [("x.py", ""), ("-m", "starting.take_interrupts_back()")]
)
def test_a_program_of_the_users_and_a_command_that_runs_are_told(name, then):
    _, out, error = run(name, then)
    assert not out
    assert error.endswith("KeyboardInterrupt\n")


def test_a_signal_that_is_ignored_stays_ignored():
    assert run("-m", before="SIG_IGN") == (0, "alive\n", "")


def test_python_m_is_what_a_command_is_known_by(tmp_path):
    """While it imports the package, and no longer."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import sys\nprint(sys.argv[0])\n")
    (tmp_path / "package" / "x.py").write_text("import sys\nprint(sys.argv[0])\n")
    command = [sys.executable, "-m", "package.x"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    first, second = done.stdout.split()
    assert first == "-m"
    assert second.endswith("x.py")
