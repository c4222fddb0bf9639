"""Ctrl-C, SIGTERM and SIGHUP end a command as one: by KeyboardInterrupt, where it does no harm."""

import contextlib
import os
import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# After which an interrupt that was swallowed is sent again.
AGAIN_SECONDS = 0.01


@contextlib.contextmanager
def ending_the_block() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, as SIGINT is, and have none be swallowed.

    A signal that is ignored, as `nohup` has it, stays ignored. Outside the main thread, where
    signals never arrive, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    hook = sys.unraisablehook
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, _interrupt)
    sys.unraisablehook = _sent_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Keep a signal that would raise until the block is done; a second one is not kept.

    For what others' code does badly in the middle of: orbax takes an interrupt for a damaged file.
    """
    came: list[tuple[int, FrameType | None]] = []

    def keep(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))
        signal.signal(number, before[number])

    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in ALL}
        before = {number: old for number, old in handlers.items() if callable(old)}
    try:
        for number in before:
            signal.signal(number, keep)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in came:
            before[number](number, frame)


def leave(status: int) -> NoReturn:
    """End the process; after an interrupt at once.

    Native threads that still compute may then touch what Python has torn down: now and then a
    process that had said `interrupted` died of a segmentation fault.
    """
    if status == 130:
        os._exit(status)
    sys.exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:  # the shell and the kernel may both say that a terminal is gone
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _sent_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Of an interrupt in a callback that Python lets no error out of: send it again a bit later.

    Such are destructors, and what jax has the garbage collector call: it runs often enough that one
    Ctrl-C in four was lost.
    """
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    answered = [n for n in ALL if callable(signal.getsignal(n))]
    timer = threading.Timer(AGAIN_SECONDS, interrupt_main, answered[:1])
    timer.daemon = True
    timer.start()
