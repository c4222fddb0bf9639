"""Interrupts: none is lost in a callback, and some code runs to its end first."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from data_prep.command.interrupts import ending_the_block, held_back

SWALLOWED = """
import gc, os, signal, sys, time
from data_prep.command.cli import run
from data_prep.command.interrupts import leave

def collected(phase, info):
    gc.callbacks.remove(collected)
    os.kill(os.getpid(), signal.{number})
    for _ in range(1000):
        pass  # where Python raises what the signal's handler raises

def body(values):
    gc.callbacks.append(collected)
    gc.collect()
    time.sleep(30)
    print("not interrupted")

leave(run(lambda values: None, body, "", ["command"]))
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupt_in_a_callback_of_the_garbage_collector_is_not_lost(number):
    code = SWALLOWED.format(number=number)
    # It wakes the command from its sleep.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: nothing was written\n"


def test_an_interrupt_that_is_swallowed_where_threads_are_slow_is_not_lost():
    """Sent again before the hook that saw it had returned, it was lost there."""
    slow = (
        "import threading; start = threading.Thread.start\n"
        "threading.Thread.start = lambda thread: (start(thread), time.sleep(0.1))\n"
    )
    code = SWALLOWED.format(number="SIGINT").replace("def body", f"{slow}def body")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25)
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was written\n")


def test_an_interrupt_in_a_callback_at_the_very_end_is_not_lost():
    code = SWALLOWED.format(number="SIGINT").replace("time.sleep(30)", "return")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was written\n")


def test_other_errors_of_callbacks_are_shown():
    code = SWALLOWED.format(number="SIGINT").replace("os.kill(os.getpid(), signal.SIGINT)", "1 / 0")
    code = code.replace("time.sleep(30)", "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "not interrupted\n")
    assert "ZeroDivisionError" in done.stderr


def reached_of(signals, error=None):
    """Of points in a block, each after a signal, those that were reached."""
    reached = []

    def block():
        with held_back():
            for number in signals:
                os.kill(os.getpid(), number)
                time.sleep(0.05)
                reached.append(number)
            if error is not None:
                raise error

    with ending_the_block(), pytest.raises(KeyboardInterrupt):
        block()
    return reached


def test_an_interrupt_waits_for_what_is_not_to_be_disturbed():
    before = signal.getsignal(signal.SIGINT)
    assert reached_of([signal.SIGINT]) == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_does_not_wait(second):
    assert reached_of([signal.SIGINT, second, second]) == [signal.SIGINT]


def test_an_interrupt_comes_before_the_error_that_it_caused():
    assert reached_of([signal.SIGINT], ValueError()) == [signal.SIGINT]


@pytest.mark.parametrize(("status", "said"), [(130, ""), (1, "at exit\n")])
def test_after_an_interrupt_a_process_is_not_torn_down(status, said):
    code = (
        "import atexit; from data_prep.command.interrupts import leave\n"
        f"atexit.register(print, 'at exit'); leave({status})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, said)


def test_threads_hold_nothing_back():
    def body():
        with held_back():
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert done
