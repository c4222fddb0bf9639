"""Change the code a little, and see whether the tests notice.

    python -m tests.helpers.mutate sanas_jax/gates.py tests/sanas_jax/test_gates.py …

One operator, comparison, constant or default at a time, in a copy of the project; the test files
run until the first failure. Printed are the survivors with their lines, and how many of all they
are. A survivor is a change that no test forbids: it wants a test, or a reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

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


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """(line, what was changed, the changed module), for every place that can be."""
    places = _expressions(tree)
    for number, place in enumerate(places):
        changed = copy.deepcopy(tree)
        again = _expressions(changed)[number]
        if _change(again):
            yield place.lineno, f"{ast.unparse(place)}  →  {ast.unparse(again)}", changed


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


def main() -> int:
    """The command; its status is the number of survivors, 100 at most."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--most", type=int, default=0, help="as many, chosen by a fixed seed")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a mutant")
    given = parser.parse_args()
    found = list(mutants(ast.parse(given.module.read_text())))
    if given.most:
        found = random.Random(0).sample(found, min(given.most, len(found)))
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        shutil.copytree(".", root, symlinks=True, ignore=shutil.ignore_patterns(".*", "runs"))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["-m", "not slow", *given.tests]
        # Where the tests fail as it is, every change would count as noticed.
        unchanged = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if unchanged.returncode:
            sys.exit(f"tests: expected them to pass before a change\n{unchanged.stdout[-2000:]}")
        for number, (line, what, changed) in enumerate(found, start=1):
            (root / given.module).write_text(ast.unparse(changed))
            try:
                done = subprocess.run(command, cwd=root, capture_output=True, timeout=given.timeout)
                killed = done.returncode != 0
            except subprocess.TimeoutExpired:
                killed = True
            if not killed:
                survivors.append(what)
                print(f"{given.module}:{line}: {what}", flush=True)
            print(
                f"{number} of {len(found)}, {len(survivors)} survive", file=sys.stderr, flush=True
            )
    print(f"{given.module}: {len(found) - len(survivors)} of {len(found)} killed")
    return min(len(survivors), 100)


if __name__ == "__main__":
    sys.exit(main())
