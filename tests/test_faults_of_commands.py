"""Whole commands on a disk that fails, and killed, at every kind of write: nothing is lost.

A killed process leaves what lay on the disk at that moment: so the folder is copied at a point, and
the command goes on in the copy. What is written is looked at, so nothing is computed.
"""

import errno
import hashlib
import re
import shutil
from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from data_prep.command.cli import run
from experiments import calibrate, evaluate, launch, pack, sweep
from experiments.config import Config, ModelConfig
from experiments.evaluation import stream_inference
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.trained import training_of
from experiments.training import programs
from experiments.training.init_from import fresh_member
from experiments.training.job import run_keys
from tests.helpers.faults import Fault, failing
from tests.helpers.live import RATE, noise
from tests.helpers.packed import write_described
from tests.helpers.places import CONFIGS
from tests.test_faults import content as files_of

pytestmark = pytest.mark.slow

SETTINGS = (
    *("model.depth=2", "model.maps=1", "train.steps=4", "train.batch_size=8", "train.samples=2"),
    *("train.log_every=2", "train.eval_every=2", "train.front_size=1", "train.report_costs=()"),
    "train.controller_delay_steps=0",
)
EACH = {"launch": 2, "sweep": 8}  # of so many kinds one: for time; a sweep writes as `launch` does
EDGES = 18
ERRORS = (errno.ENOSPC, errno.EIO)
COMMANDS = {
    "launch": (launch, ["--set=train.budget=0.5"]),
    "sweep": (sweep, ["--budgets=40%,60%"]),
}


@pytest.fixture(scope="module")
def no_arithmetic():
    """Steps and validations that take no time, and differ from step to step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "make_draw", lambda *args: lambda *args: None)
        patch.setattr(programs, "make_train_steps", lambda *args: _steps)
        patch.setattr(programs, "make_validation", lambda *args: _validation)
        yield


def _steps(members, batches, keys, targets, steps):
    def moved(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(np.asarray(leaf) + np.asarray(0.01 * (steps.sum() + 1), leaf.dtype))

    members = members._replace(train=jax.tree.map(moved, members.train))
    return members, _metrics(float(jnp.sum(targets.cost)) + steps.sum(), (1, len(steps)))


def _validation(params, batch):
    return _metrics(float(sum(map(jnp.sum, jax.tree.leaves(params)))), (1, 1))


def _metrics(value, shape):
    """Such as the objective gives, the better the larger the value."""
    names = ("loss", "cost", "cost_weight", "grad_norm")
    scalars = {name: np.full(shape, 1 / (2 + abs(value)), np.float32) for name in names}
    return scalars | {
        "frame_accuracy": 1 - scalars["loss"],
        "live_by_label": np.ones((*shape, 10, EDGES), np.float32),
        "steps_by_label": np.ones((*shape, 10), np.float32),
    }


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
    # What is written once is not swept by who writes it again.
    left = [path.name for path in folder.rglob("*") if re.search("partial|tmp", path.name)]
    assert [name for name in left if not name.startswith(".frontend.npz.")] == []
    return out


def _bytes(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def plain(kind):
    """A kind without the step, the member of a sweep, and what orbax writes inside a checkpoint."""
    what, name = kind.split(" ", 1)
    name = re.sub(r"^budget_[^/]*/", "", name)
    return f"{what} {re.sub(r'[0-9]+', '#', '/'.join(name.split('/')[:2]))}"


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
def test_a_command_that_is_killed_ends_as_one_that_is_not(name, no_arithmetic, tmp_path, capsys):
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
    chosen = list(states.values())[:: EACH[name]]
    print(f"{name}: {fault.count} points of {len(copies)} kinds, {len(chosen)} states gone on from")
    for kind, to in chosen:
        assert trained(name, to) == 0, kind
        assert end_of(to) == expected, kind
    assert capsys.readouterr().err.count("error") == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_on_a_failing_disk_says_so_and_goes_on(name, no_arithmetic, tmp_path, capsys):
    """One fault after another, each of another kind and a little later, in the same folder."""
    folder = tmp_path / "whole"
    with failing(Fault(0, at=-1, root=folder)) as counted:
        assert trained(name, folder) == 0
    expected, failed, folder = end_of(folder), 0, tmp_path / "failing"
    kinds = list({plain(kind): kind for kind in counted.kinds}.values())[1 :: EACH[name]]
    for number, kind in enumerate(kinds):
        for _ in range(2):
            fault = Fault(ERRORS[number % 2], at=(kind, 0), root=folder)
            with failing(fault):
                status = trained(name, folder)
            said = capsys.readouterr().err.splitlines()
            assert len([line for line in said if line.startswith("error: ")]) == status, said
            assert not any("Traceback" in line for line in said), said
            failed += status
            if status == 0:  # it was not met, or is one that nothing is lost by
                assert end_of(folder) == expected
                shutil.rmtree(folder)
            if fault.happened:
                break
        assert fault.happened, kind
    assert trained(name, folder) == 0
    assert end_of(folder) == expected
    print(f"{name}: {len(kinds)} faults of as many kinds, {failed} told on a line, nothing lost")


@pytest.fixture(scope="module")
def listened(tmp_path_factory):
    """A run that nobody trained, and a stream with its labels; the stream is run over once."""
    root = tmp_path_factory.mktemp("listened")
    config = Config(model=ModelConfig(maps=(1, 1), state_size=2))
    built = write_described(root / "run", config)
    kept = Checkpoints(root / "run" / "checkpoints")
    kept.save(4, fresh_member(built, jax.random.key(7)))
    kept.close()
    soundfile.write(root / "s.wav", noise(4), RATE, subtype="PCM_16")
    (root / "s_labels.txt").write_text("low, 500\nmid, 2500\n")
    real, found = stream_inference.run_group, []

    def once(*args):
        if not found:
            found.append(real(*args))
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_inference, "run_group", once)
        yield root


def packed(root, folder, number):
    said = [f"--command=make {number}", "--data_licence=none", "--overwrite", "--name=small"]
    return command(pack, f"--workdir={folder}", f"--out={folder}", *said)


def calibrated(root, folder, number):
    rate = f"--false_alarms_per_hour={(100_000, 90_000)[number]}"
    return command(calibrate, f"--workdir={folder}", f"--stream={root / 's.wav'}", rate)


def evaluated(root, folder, number):
    threshold = f"--threshold={(0.25, 0.5)[number]}"
    return command(evaluate, f"--workdir={folder}", f"--stream={root / 's.wav'}", threshold)


@pytest.mark.parametrize("act", [packed, calibrated, evaluated])
def test_a_result_is_the_old_or_the_new_one(act, listened, tmp_path, capsys):
    folder, old_folder = tmp_path / "run", tmp_path / "old"
    shutil.copytree(listened / "run", folder)
    assert act(listened, folder, 1) == 0, capsys.readouterr().err
    new = files_of(folder)
    assert act(listened, folder, 0) == 0
    old = files_of(folder)
    assert old != new
    shutil.copytree(folder, old_folder)
    copies = []

    def copy(kind, again):
        if not again:
            # Results say the folder's name.
            to = tmp_path / f"copy {len(copies)}" / folder.name
            copies.append((kind, shutil.copytree(folder, to)))

    with failing(Fault(0, at=-1, root=folder, before=copy)) as counted:
        assert act(listened, folder, 1) == 0
    states = {content(to): (kind, to) for kind, to in copies}
    for kind, to in states.values():
        assert all(data in (old.get(name), new.get(name)) for name, data in files_of(to).items())
        assert act(listened, to, 1) == 0, kind
        assert files_of(to) == new, kind
    for number, (kind, _) in enumerate(copies):
        shutil.rmtree(folder)
        shutil.copytree(old_folder, folder)
        capsys.readouterr()
        with failing(Fault(ERRORS[number % 2], at=(kind, 0), root=folder)):
            status = act(listened, folder, 1)
        said = capsys.readouterr().err
        # That a folder could not be made which is there is nobody's loss.
        no_loss = kind.startswith("mkdir ") and (old_folder / kind[6:]).is_dir()
        assert (status, said.count("\n")) == ((0, 0) if no_loss else (1, 1)), kind
        assert status == 0 or said.startswith("error: ")
        assert files_of(folder) == (old if status else new), kind
        assert not list(folder.rglob("*.partial"))
        assert act(listened, folder, 1) == 0
        assert files_of(folder) == new, kind
    print(
        f"{act.__name__}: {counted.count} points of {len(copies)} kinds, each failed; "
        f"{len(states)} states of a killed one; nothing lost"
    )
