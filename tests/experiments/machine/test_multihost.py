"""What one of several processes does when it is told to end."""

import signal
import subprocess
import sys

# The main thread waits in C for a lock that nobody gives back, as it would for a lost process.
STUCK = """
import ctypes, sys, jax
from data_prep.command import cli
from experiments.machine import multihost
jax.process_count, multihost.ENDING_SECONDS = lambda: 2, 0.2

def main(values):
    with multihost.failing_at_once():
        mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        library.pthread_mutex_lock(mutex)
        print("stuck", flush=True)
        library.pthread_mutex_lock(mutex)

sys.exit(cli.run(lambda values: None, main, "", ["stuck"]))
"""


def test_a_signal_ends_a_process_that_waits_within_a_computation():
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == (
        "interrupted: the same command in all processes goes on from the last checkpoint\n"
    )


# The main thread answers, and then takes longer to end than the one that watches it would wait.
ANSWERS = """
import signal, time, jax
from data_prep.command import cli
from experiments.machine import multihost
jax.process_count, multihost.ENDING_SECONDS, multihost.GRACE_SECONDS = lambda: 2, 0.2, 1.0

def main(values):
    with multihost.failing_at_once():
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

cli.run(lambda values: None, main, "", ["answers"])
"""


def test_one_that_answers_the_signal_says_so_once():
    done = subprocess.run([sys.executable, "-c", ANSWERS], capture_output=True, text=True)
    line = "interrupted: the same command in all processes goes on from the last checkpoint\n"
    assert (done.returncode, done.stderr) == (130, line)
