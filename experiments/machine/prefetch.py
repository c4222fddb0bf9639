"""What is needed next, made in a thread meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


def ahead(items: Iterable[T], depth: int = 2) -> Generator[T]:
    """The items in order, up to `depth` of them made before they are asked for.

    An error in `items` is raised where its item is asked for. Closing the iterator ends the thread.
    """
    queue: Queue[Any] = Queue(depth)
    stopped = threading.Event()
    end = object()

    def put(entry: tuple[Any, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=_POLL_SECONDS)
                break
            except Full:  # nobody has asked yet: look whether anybody still will
                continue
        return not stopped.is_set()

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:  # whatever it is: who asks for the item has to know
            put((end, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)

    def taken() -> Generator[T]:
        thread.start()
        try:
            while True:
                item, error = queue.get()
                if error is not None:
                    raise error
                if item is end:
                    return
                yield item
        finally:
            stopped.set()
            thread.join()

    return taken()
