"""Ctrl-C, SIGTERM and SIGHUP end a command as one: by KeyboardInterrupt, where it does no harm."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType
from typing import NoReturn

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# After which an interrupt that was swallowed is sent again.
AGAIN_SECONDS = 0.02


@contextlib.contextmanager
def ending_the_block() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, as SIGINT is, and have none be swallowed.

    Python lets no error out of destructors, nor of what jax has the garbage collector call, which
    runs often. An interrupt that comes there is sent again.

    A signal that is ignored, as `nohup` has it, stays ignored. Outside the main thread, where
    signals never arrive, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook = sys.unraisablehook
    lock, over = threading.Lock(), False
    swallowed: list[threading.Event] = []  # each set once it has arrived

    def interrupt(number: int, frame: FrameType | None) -> None:
        for arrived in swallowed:
            arrived.set()
        if number == signal.SIGHUP:  # shell and kernel may both say that a terminal is gone
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    def note(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)
            return
        swallowed.append(threading.Event())
        threading.Thread(target=send_again, args=swallowed[-1:], daemon=True).start()

    def send_again(arrived: threading.Event) -> None:
        # More than once: a signal just before the main thread waits in the system does not wake it.
        while not arrived.wait(AGAIN_SECONDS):
            if _main_runs(note.__code__):  # nor does Python let an error out of the hook
                continue
            with lock:
                if over or arrived.is_set():
                    return
                ours = signal.getsignal(signal.SIGTERM) is interrupt
                if not ours:  # nobody says when it has arrived
                    arrived.set()
                _send_to_main([signal.SIGTERM] if ours else ALL)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, interrupt)
    sys.unraisablehook = note
    try:
        yield
    finally:
        try:
            with lock:  # one that is being sent arrives here
                over = True
                late = not all(arrived.is_set() for arrived in swallowed)
        finally:
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)
        if late:
            raise KeyboardInterrupt


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Keep a signal that would raise until the block is done; another one is not kept.

    For what others' code does badly in the middle of: orbax takes an interrupt for a damaged file.
    """
    came: list[tuple[int, FrameType | None]] = []
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    over = False

    def keep(number: int, frame: FrameType | None) -> None:
        if over or came:
            before[number](number, frame)
        else:
            came.append((number, frame))

    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in ALL}
        before = {number: old for number, old in handlers.items() if callable(old)}
    try:
        for handled in before:
            signal.signal(handled, keep)
        yield
    finally:
        over = True
        for number, handler in before.items():
            signal.signal(number, handler)
        for kept, frame in came:
            before[kept](kept, frame)


def leave(status: int) -> NoReturn:
    """End the process; after an interrupt at once.

    Native threads that still compute may then touch what Python has torn down: now and then a
    process that had said `interrupted` died of a segmentation fault.
    """
    if status == 130:
        os._exit(status)
    sys.exit(status)


def _main_runs(code: CodeType) -> bool:
    """Whether the main thread is in a function with this code."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def _send_to_main(numbers: Sequence[int]) -> None:
    """The first of these signals that is answered, to the main thread: its waiting ends, too."""
    main = threading.main_thread().ident
    answered = [number for number in numbers if callable(signal.getsignal(number))]
    if main is not None and answered:
        signal.pthread_kill(main, answered[0])
