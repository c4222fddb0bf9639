"""What the commands share: local flags, and errors that are one line on stderr."""

import contextlib
import math
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

from absl import flags

from data_prep.command.atomic import WRITTEN
from data_prep.command.interrupts import ending_the_block
from data_prep.command.starting import take_interrupts_back

Define = Callable[[flags.FlagValues], None]
Body = Callable[[flags.FlagValues], None]

_MISSING = re.compile(r"Flag --(\w+) must have a value other than None")  # absl's words
# Native threads may still compute with what the frames of an interrupt hold, until `leave`.
_ENDED: list[KeyboardInterrupt] = []


def run(
    define: Define,
    body: Body,
    doc: str,
    argv: Sequence[str],
    interrupted: str = "",
) -> int:
    """Parse `argv` (program name first), run `body`, and return the exit status.

    `interrupted` says after Ctrl-C, SIGTERM or SIGHUP what became of the work; if it is empty, what
    was written is said.

    Each call has a `FlagValues` of its own: absl's global one lets a process hold the flags of
    only one command. Status 0: done, 1: an error, which is one line, 130: interrupted.
    """
    _print_all_names()
    WRITTEN.clear()
    values = flags.FlagValues()
    define(values)
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    try:
        with contextlib.suppress(ValueError):  # not the main thread
            take_interrupts_back()
        rest = _parse(values, argv)
        if values["help"].value:
            with contextlib.suppress(BrokenPipeError):  # of `head`, say, which has read enough
                print(f"{doc.strip()}\n\nflags:\n{_describe(values)}", flush=True)
            return 0
        if rest:
            raise ValueError(f"unexpected argument {rest[0]!r}: options are given as --name value")
        values.validate_all_flags()
        _check_numbers(values)
        with ending_the_block():
            body(values)
            _say_all()
    except KeyboardInterrupt as ended:
        _ENDED.append(ended)
        with contextlib.suppress(OSError):  # a terminal that is gone hears nothing
            print(f"interrupted: {interrupted or _written()}", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:
        print("error: standard output was closed before the command was done", file=sys.stderr)
        return 1
    except (ValueError, OSError, MemoryError, flags.Error) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except Exception as error:  # ours: whoever meets it shall have a line, and we the trace
        print(f"error: {our_fault(error)}", file=sys.stderr)
        return 1
    finally:
        with contextlib.suppress(OSError):  # it was said
            _say_all()
    return 0


def _written() -> str:
    """What an interrupted command has put in its place."""
    if not WRITTEN:
        return "nothing was written"
    more = f" and {len(WRITTEN) - 1} more" if len(WRITTEN) > 1 else ""
    return f"{WRITTEN[-1]}{more} had been written"


def _check_numbers(values: flags.FlagValues) -> None:
    """ValueError for NaN and infinity, which are within the bounds of any flag."""
    for name in values:
        value = values[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name}: expected a finite number, got {value}")


def _say_all() -> None:
    """Have on standard output what was printed; what it does not take is forgotten."""
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except OSError:
        # Else Python tries again at exit, and says in two lines that it cannot.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise


def _parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Positional arguments left after the flags; `--help` wins over flags that are missing."""
    if any(argument in ("--help", "-h", "-help") for argument in argv[1:]):
        values["help"].value = True
        values.mark_as_parsed()
        return []
    # Required flags are checked while parsing, which is what ordinary calls want.
    try:
        return list(values(list(argv)))[1:]
    except flags.IllegalFlagValueError as error:
        missing = [f"--{name}" for name in _MISSING.findall(str(error))]
        if not missing:
            raise
        raise ValueError(f"{', '.join(missing)}: expected a value, got none") from None


def one_line(error: Exception) -> str:
    """Text of an error on one line; for an OSError what happened, then the file."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # (from, to, why)
        return f"{error.args[0][0][2]}: {error.args[0][0][0]}"
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f": {os.fsdecode(str(error.filename))}"
        return f"{error.strerror}{name}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def our_fault(error: BaseException) -> str:
    """Say of an error that no check foresaw whose fault it is, and write its trace to a file."""
    text = "".join(traceback.format_exception(error))
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    try:
        number, name = tempfile.mkstemp(prefix="sanas-jax-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(sys.argv)}\n{text}")
    except OSError as unwritten:
        name = f"nowhere ({one_line(unwritten)})"
    return f"a fault of sanas_jax, please report it: {what}; the trace is in {name}"


def word_list(values: Sequence[str]) -> tuple[str, ...]:
    """Words of a comma-separated flag without blanks around them."""
    return tuple(word for word in (value.strip() for value in values) if word)


def number(word: str) -> float:
    """A word of a flag; NaN, which lies in no range, for one that is no number."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def _describe(values: flags.FlagValues) -> str:
    """One entry per flag: name, default, help."""
    lines = []
    for name in sorted(set(values) - {"h"}):
        flag = values[name]
        default = "" if flag.default in (None, [], "") else f" (default: {flag.default_as_str})"
        lines.append(f"  --{name}: {flag.help}{default}")
    return "\n".join(lines)


def _print_all_names() -> None:
    """Let a stream that cannot print a letter, or a file name that is no text, show its code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # replaced, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
