"""Whole commands on a disk that fails, and killed, at every kind of write: nothing is lost.

A killed process leaves what lay on the disk at that moment: so the folder is copied at a point, and
the command goes on in the copy. Programs are compiled once, since what is written is looked at.
"""

import hashlib
import re
import shutil
from contextlib import suppress

import numpy as np
import pytest

from data_prep.command.cli import run
from experiments import launch, sweep
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.trained import training_of
from experiments.training import programs
from experiments.training.init_from import fresh_member
from experiments.training.job import run_keys
from tests.helpers.faults import Fault, failing
from tests.helpers.places import CONFIGS

pytestmark = pytest.mark.slow

SETTINGS = (
    *("model.depth=2", "model.maps=1", "train.steps=4", "train.batch_size=8", "train.samples=2"),
    *("train.log_every=2", "train.eval_every=2", "train.front_size=1", "train.report_costs=()"),
    "train.controller_delay_steps=0",
)
COMMANDS = {
    "launch": (launch, ["--set=train.budget=0.5"]),
    "sweep": (sweep, ["--budgets=40%,60%"]),
}


@pytest.fixture(scope="module")
def compiled_once():
    def once(make):
        made = []

        def kept(*args, **options):
            if not made:
                made.append(make(*args, **options))
            return made[0]

        return kept

    with pytest.MonkeyPatch.context() as patch:
        for name in ("make_draw", "make_train_steps", "make_validation"):
            patch.setattr(programs, name, once(getattr(programs, name)))
        yield


def command(module, *arguments):
    return run(module.define_flags, module.main, "", [module.__name__, *map(str, arguments)])


def trained(name, folder):
    """Train, or go on; the exit status."""
    module, own = COMMANDS[name]
    settings = [f"--set={setting}" for setting in SETTINGS]
    return command(
        module, f"--config={CONFIGS / 'bsn_digits.py'}", f"--workdir={folder}", *settings, *own
    )


def end_of(folder, like={}):  # noqa: B006  of all the same form
    """All that a run or a sweep leaves but for times: by name, bytes or text or numbers."""
    out = {}
    for member in run_folder.expand_sweeps([folder]):
        own = member.relative_to(folder)
        info = run_folder.read(member)
        if not like:
            like["member"] = fresh_member(training_of(info), run_keys(0).init)
        for part, tree in (("checkpoints", like["member"]), ("front", None)):
            kept = Checkpoints(member / part)
            tree = kept.restore(4, tree) if tree is not None else None
            out[f"{own}/{part}"] = kept.steps(), _bytes(tree)
            kept.close()
        for name in ("metrics.jsonl", "front.json", "config.json", "config.py", "frontend.npz"):
            out[f"{own}/{name}"] = (member / name).read_bytes()
    left = [path.name for path in folder.rglob("*") if re.search("partial|tmp", path.name)]
    assert left == []
    return out


def _bytes(tree):
    import jax

    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def plain(kind):
    """A kind without the number of the step."""
    return re.sub(r"\d+", "#", kind)


def content(folder):
    """A hash of what lies there, but for what says who holds it and when it was."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = re.sub(r"\.\w{8}\.partial", "", str(path.relative_to(folder)))
        if path.is_file() and "tfevents" not in name and path.name != "lock":
            digest.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
        elif path.is_dir():
            digest.update(name.encode())
    return digest.hexdigest()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_ends_as_one_that_is_not(name, compiled_once, tmp_path, capsys):
    folder, copies, seen = tmp_path / "whole", {}, set()

    def copy(kind, again):
        # One of each kind, in its turn of an early and a late one.
        if plain(kind) in copies and (kind in seen or len(seen) % 2):
            return
        seen.add(kind)
        to = tmp_path / f"copy {len(seen)}"
        with suppress(OSError):  # not there yet, or renamed meanwhile
            shutil.copytree(folder, to)
        copies[plain(kind)] = to

    fault = Fault(0, at=-1, root=folder, before=copy)
    with failing(fault):
        assert trained(name, folder) == 0, capsys.readouterr().err
    expected = end_of(folder)
    states = {content(to): (kind, to) for kind, to in copies.items() if to.exists()}
    print(f"{name}: {fault.count} points of {len(copies)} kinds, {len(states)} states on the disk")
    for kind, to in states.values():
        assert trained(name, to) == 0, kind
        assert end_of(to) == expected, kind
    assert capsys.readouterr().err.count("error") == 0
