"""How far long work is: a bar on a terminal, a line now and then in a log.

A bar is redrawn in place, which in a file is one line that grows by every redrawing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# Between two lines of a log.
LINE_SECONDS = 10.0


class Progress:
    """Work that is counted on stderr; use it in a `with`, or close it.

    Where stderr is no terminal, a line is written every `LINE_SECONDS` at most, and one when all
    is done; of work that takes less nothing is said.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        what: str = "",
        *,
        initial: int = 0,
        keep: bool = True,
        silent: bool = False,
    ) -> None:
        """Begin to count.

        Args:
          total: units of the whole work.
          unit: what is counted, in the singular.
          what: is done, said first.
          initial: units that were done before.
          keep: whether a bar stays when it is closed.
          silent: show nothing.
        """
        self._total, self._unit, self._what, self._initial = total, unit, what, initial
        self._silent = silent
        self._done, self._beside, self._open = initial, "", True
        self._begin = self._written = time.monotonic()
        self._bar = None
        if not silent and _is_terminal(sys.stderr):
            self._bar = tqdm(
                total=total,
                unit=unit,
                desc=what or None,
                initial=initial,
                leave=keep,
                mininterval=1.0,
                dynamic_ncols=True,
            )

    def add(self, count: int = 1) -> None:
        """So many more units are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        # The last line is left to `close`, when all is said that stands beside it.
        elif self._done < self._total and time.monotonic() - self._written >= LINE_SECONDS:
            self._written = time.monotonic()
            self._write_line()

    def show_beside(self, text: str) -> None:
        """Stands beside the count from now on."""
        self._beside = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Nothing more is counted. Work that was given up gets no last line."""
        if self._bar is not None:
            self._bar.close()
        elif (
            self._open
            and self._done >= self._total
            and time.monotonic() - self._begin >= LINE_SECONDS
        ):
            self._write_line()
        self._open = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write_line(self) -> None:
        if self._silent:
            return
        seconds = time.monotonic() - self._begin
        rate = (self._done - self._initial) / max(seconds, 1e-9)
        line = f"{self._what}: " if self._what else ""
        line += f"{self._unit} {self._done:,} of {self._total:,}, {rate:.3g} a second, "
        if self._done < self._total:
            line += f"{_duration((self._total - self._done) / rate)} left"
        else:
            line += f"in {_duration(seconds)}"
        line += f", {self._beside}" if self._beside else ""
        print(line, file=sys.stderr, flush=True)


def counted(items: Sequence[T], unit: str, what: str = "", *, keep: bool = True) -> Iterator[T]:
    """The items in turn, with their progress; arguments as of `Progress`."""
    with Progress(len(items), unit, what, keep=keep) as shown:
        for item in items:
            yield item
            shown.add()


def print_above(line: str, stream: TextIO | None = None) -> None:
    """Print a line to stdout, or another stream, above a bar if there is one."""
    tqdm.write(line, file=stream)
    (stream or sys.stdout).flush()


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _duration(seconds: float) -> str:
    """As hours, minutes and seconds: 1:02:03, or 02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
