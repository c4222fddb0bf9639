"""Checkpoints: what was saved comes back, and what does not fit is refused in one line."""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep.command.cli import run
from experiments import evaluate
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.trained import model_of
from sanas_jax.rollout import init_model
from tests.experiments.test_evaluate import write_stream
from tests.helpers.packed import write_conditioned_run


class State(NamedTuple):
    """As a training state: named tuples, dicts and tuples of arrays."""

    weights: dict[str, Any]
    moments: tuple[Any, ...]
    step: Any


def state(rows: int = 300, names: int = 20, moments: int = 2) -> State:
    """Arrays that do not compress: reading them takes a while."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": jnp.asarray(rng.random((rows, 200)), jnp.float32) for i in range(names)}
    return State(weights, (None, *(jnp.ones(rows) for _ in range(moments))), jnp.int32(7))


@pytest.fixture(autouse=True)
def stray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exceptions that nobody can catch go to stderr, as outside pytest."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, state())
    return checkpoints


def test_restore_gives_what_was_saved(saved: Checkpoints) -> None:
    assert saved.steps() == [3]
    found = saved.restore(3, state())
    assert isinstance(found, State)
    assert found.moments[0] is None
    np.testing.assert_array_equal(found.weights["w7"], state().weights["w7"])
    part = saved.restore_part(3, {"weights": {"w7": jnp.zeros((300, 200))}})
    np.testing.assert_array_equal(part["weights"]["w7"], state().weights["w7"])


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (state(rows=100), "it has no weights/w0 of shape (100, 200)"),
        (state(names=21), "it has no weights/w20 of shape (300, 200)"),
        (state(moments=3), "it has no moments/3 of shape (300,)"),
    ],
)
def test_restore_of_something_else_leaves_nothing_behind(
    saved: Checkpoints, capfd: pytest.CaptureFixture[str], like: State, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        saved.restore(3, like)
    with pytest.raises(ValueError, match=re.escape("it has no weights/w0 of shape (5,)")):
        saved.restore_part(3, {"weights": {"w0": jnp.ones(5)}})
    time.sleep(0.2)  # for what would still be read, to complain
    gc.collect()
    assert capfd.readouterr().err == ""


def test_a_run_of_another_network_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The latest training state, and parameters of the front."""
    write_conditioned_run(tmp_path / "run")
    front = Checkpoints(tmp_path / "run" / "front")
    model = model_of(run_folder.read(tmp_path / "run"))
    front.save(2, init_model(model, jax.random.key(0)))
    front.close()
    file = tmp_path / "run" / "config.json"
    described = json.loads(file.read_text())
    described["config"]["model"]["maps"] = [3, 3]
    file.write_text(json.dumps(described))
    for step in ("latest", "2"):
        command = ["evaluate", f"--workdir={tmp_path / 'run'}", *write_stream(tmp_path)]
        assert (
            run(evaluate.define_flags, evaluate.main, "", [*command, f"--checkpoint={step}"]) == 1
        )
        time.sleep(0.2)
        gc.collect()
        error = capfd.readouterr().err
        assert "expected a checkpoint of this network and version, could not read it" in error
        assert error.count("\n") == 1


HALVED = """
import sys
from pathlib import Path
import numpy as np
from data_prep.command.cli import run
from experiments.runs.checkpoints import Checkpoints

def body(values):
    Checkpoints(Path(sys.argv[1])).restore(3, {"a": np.zeros(5)})

sys.exit(run(lambda values: None, body, "", ["command"]))
"""


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, {"a": np.zeros(5)})
    checkpoints.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    command = [sys.executable, "-c", HALVED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / '3'}: expected a checkpoint of this network")
    assert done.stderr.count("\n") == 1


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from data_prep.command.cli import run
from experiments.runs.checkpoints import Checkpoints

def body(values):
    checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
    tree = {"a": np.random.default_rng(0).standard_normal(100_000)}
    checkpoints.save(0, tree)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, any_size[1]))
    checkpoints.save(1, tree)

any_size = resource.getrlimit(resource.RLIMIT_FSIZE)
status = run(lambda values: None, body, "", ["command"])
resource.setrlimit(resource.RLIMIT_FSIZE, any_size)
sys.exit(status)
"""


def test_a_disk_that_is_full_is_one_line_and_the_last_checkpoint_stays(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "checkpoints")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / 'checkpoints' / '1'}: could not be written")
    assert Checkpoints(tmp_path / "checkpoints").steps() == [0]


READER = """
import sys
from pathlib import Path
from experiments.runs.trained import read_model
try:
    read_model(sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_a_run_without_a_checkpoint_is_said_and_nothing_more(tmp_path: Path) -> None:
    write_conditioned_run(tmp_path / "run")
    for folder in ("checkpoints", "front"):
        shutil.rmtree(tmp_path / "run" / folder, ignore_errors=True)
    command = [sys.executable, "-c", READER, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("expected a checkpoint, found none; has training begun?\n")
    assert not done.stderr


def test_who_reads_leaves_what_is_being_saved_alone(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(3)})
    # The name that orbax gives a save until it is whole.
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "1", unfinished)
    with Checkpoints(tmp_path, writes=False) as reading:
        assert reading.steps() == [1]
    assert unfinished.is_dir()
    with Checkpoints(tmp_path) as writing:
        writing.save(3, {"x": jnp.ones(3)})  # which waits for what began before it
    assert not unfinished.exists()


@pytest.mark.parametrize("way", ["load", "save"])
def test_an_interrupt_while_a_checkpoint_is_read_or_written_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    tree = {"a": np.zeros(5)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, tree)
        done: list[object] = []
        inner = getattr(checkpoints._checkpointer, way)

        def interrupted(*args: object, **named: object) -> object:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            done.append(inner(*args, **named))
            return done[0]

        monkeypatch.setattr(checkpoints._checkpointer, way, interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.restore(3, tree) if way == "load" else checkpoints.save(4, tree)
        assert len(done) == 1
        assert checkpoints.steps() == ([3] if way == "load" else [3, 4])
