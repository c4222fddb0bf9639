"""Change the code a little, and see whether the tests notice.

    python -m tests.helpers.mutate sanas_jax/gates.py tests/sanas_jax/test_gates.py …

One operator, comparison, constant or default at a time, in a copy of the project; the test files
run until the first failure, quick tests and those that failed before first. One process runs them
all: the package and the tests are imported anew for each change, jax and what it compiled stay.
Printed is each change with the test that failed first, or that it survives, and how many of how
many were noticed. A survivor is a change that no test forbids: it wants a test, or a reason. Tests
that are not among those given may notice it: `--lines` tries those changes again with others.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

ROOMS = ("sanas_jax", "data_prep", "experiments", "examples", "tests")  # imported anew
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def places(tree: ast.Module) -> list[int]:
    """Numbers of the expressions that can be changed."""
    return [n for n, e in enumerate(_expressions(tree)) if _change(copy.deepcopy(e))]


def mutant(tree: ast.Module, place: int) -> tuple[int, str, ast.Module]:
    """(line, what was changed, the changed module)."""
    changed = copy.deepcopy(tree)
    before, after = _expressions(tree)[place], _expressions(changed)[place]
    _change(after)
    return before.lineno, f"{ast.unparse(before)}  →  {ast.unparse(after)}", changed


def _change(node: ast.expr) -> bool:
    """Change a node in place; whether there was something to change."""
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node.op = ast.UAdd()
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        node.value = not node.value
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        node.value += 1
    else:
        return False
    return True


def _expressions(tree: ast.Module) -> list[ast.expr]:
    """All that do more than say a type, in a fixed order."""
    types: set[int] = set()
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            said = getattr(node, name, None)
            if isinstance(said, ast.expr):
                types |= {id(part) for part in ast.walk(said)}
    return [n for n in ast.walk(tree) if isinstance(n, ast.expr) and id(n) not in types]


class Runner:
    """Tests of a copy of the project, in a process that is begun anew when it hangs or dies."""

    def __init__(self, root: Path, tests: list[str], timeout: float) -> None:
        self.root, self.tests, self.timeout = root, tests, timeout
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        arguments = (other, self.root, self.tests)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        other.close()

    def run(self) -> str:
        """The first test that fails, or why there was no answer; "" where all pass."""
        self.pipe.send(None)
        why = "no answer in time"
        if self.pipe.poll(self.timeout):
            with contextlib.suppress(EOFError):
                return self.pipe.recv()
            why = "the process died"
        self.close()
        self._begin()
        return why

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


class _Order:
    """A plugin: what is quick, and what failed before, comes first."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.kills: Counter[str] = Counter()
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda i: self.seconds.get(i.nodeid, 1) / (1 + self.kills[i.nodeid]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid
            self.kills[report.nodeid] += 1
        elif report.when == "call":
            known = self.seconds.get(report.nodeid, report.duration)
            self.seconds[report.nodeid] = min(known, report.duration)


def _serve(pipe: Connection, root: Path, tests: list[str]) -> None:
    """Run the tests whenever asked, and say what failed first."""
    os.chdir(root)
    sys.path[0] = str(root)
    order = _Order()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    while True:
        pipe.recv()
        for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
            del sys.modules[name]
        order.failed = ""
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            status = pytest.main([*options, *tests], plugins=[order])
        sys.dont_write_bytecode = True  # two changes in one second would look alike
        pipe.send(order.failed or ("" if status == 0 else f"pytest ended with {status!r}"))


def main() -> int:
    """The command; its status is the number of survivors, 100 at most."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--most", type=int, default=0, help="as many, chosen by a fixed seed")
    parser.add_argument("--lines", type=int, nargs="+", help="changes of these lines alone")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a mutant")
    given = parser.parse_args()
    tree = ast.parse(given.module.read_text())
    found = places(tree)
    of_all = len(found)
    if given.lines:
        wanted = [e.lineno in given.lines for e in _expressions(tree)]
        found = [place for place in found if wanted[place]]
    if given.most:
        found = random.Random(0).sample(found, min(given.most, len(found)))
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        shutil.copytree(".", root, symlinks=True, ignore=shutil.ignore_patterns(".*", "runs"))
        runner = Runner(root, given.tests, given.timeout)
        try:
            # Where the tests fail as it is, every change would count as noticed.
            if failed := runner.run():
                sys.exit(f"tests: expected them to pass before a change; failed: {failed}")
            for number, place in enumerate(found, start=1):
                line, what, changed = mutant(tree, place)
                (root / given.module).write_text(ast.unparse(changed))
                failed = runner.run()
                survivors += not failed
                said = failed or "SURVIVES"
                print(f"{given.module}:{line}: {what}: {said}", flush=True)
                print(f"{number} of {len(found)}, {survivors} survive", file=sys.stderr, flush=True)
        finally:
            runner.close()
    killed = len(found) - survivors
    print(f"{given.module}: {killed} of {len(found)} killed, of {of_all} that there are")
    return min(survivors, 100)


if __name__ == "__main__":
    sys.exit(main())
