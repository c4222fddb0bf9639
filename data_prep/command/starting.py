"""Ctrl-C while a command is still being imported ends it without a trace."""

import signal
import sys


def end_quietly_until_run() -> None:
    """Of a package that `python -m` imports for one of its commands: SIGINT ends the process.

    `cli.run` takes the signal back. It stays ignored where it is, as in a shell's background.
    """
    is_command = sys.argv[:1] == ["-m"]  # until the module is found (Python's documentation of -m)
    if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def take_interrupts_back() -> None:
    """SIGINT is KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
