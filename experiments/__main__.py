"""List the commands: `python -m experiments`."""

import ast
import contextlib
import sys
from pathlib import Path

from data_prep.command.cli import run
from data_prep.command.interrupts import leave

ROOT = Path(__file__).parents[1]


def commands(package: str) -> dict[str, str]:
    """Command → what it does, in a line: the first of its module's docstring.

    The files are read, not imported: that would take seconds.
    """
    found = {}
    for path in sorted((ROOT / package).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "cli" for node in tree.body):
            found[f"{package.replace('/', '.')}.{path.stem}"] = _line(ast.get_docstring(tree) or "")
    return found


def _line(doc: str) -> str:
    """The first sentence of a docstring, without the command that follows it."""
    first = doc.partition("\n\n")[0].replace("\n", " ")
    for end in (": `python", ": http", ", then open", ". "):
        first = first.partition(end)[0]
    return first.rstrip(".")


def main() -> None:
    """Print the commands of `data_prep` and `experiments`."""
    listed = commands("data_prep") | commands("experiments")
    width = max(map(len, listed))
    lines = [f"python -m {command:{width}}  {line}" for command, line in listed.items()]
    lines += ["", "Each has --help. Measurements: python -m experiments.benchmarks.all --help"]
    with contextlib.suppress(BrokenPipeError):  # of `head`, say, which has read enough
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    leave(run(lambda values: None, lambda values: main(), __doc__, sys.argv))
