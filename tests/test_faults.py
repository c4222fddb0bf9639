"""Disks that fail, and processes that die, at every write, sync and rename of what is kept."""

import json
import os
import shutil
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from data_prep import prepare
from data_prep.command.atomic import new_folder, write_json
from experiments import pack
from experiments.config import Config, Hooks
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunInfo
from experiments.runs.stored_results import StreamResult, Trace, save_stream_result
from sanas_jax.data.features import Frontend
from tests.helpers.faults import DIE, Fault, failing
from tests.helpers.readers import _RESULT
from tests.helpers.toy import mel_matrix

ERRORS = {"ENOSPC": 28, "EIO": 5, "death": DIE}
CLASSES = ("_silence_", "_unknown_", "yes")
CONFIG_FILE = "from experiments.config import Config\n\ndef get_config():\n    return Config()\n"


def info(weight):
    frontend = Frontend.create(mel_matrix())
    return RunInfo(Config(), Hooks(), CLASSES, "ab", frontend, jnp.full(len(CLASSES), weight))


def create(folder, number):
    (folder / "run").mkdir(exist_ok=True)
    config_file = folder.parent / "config.py"
    config_file.write_text(CONFIG_FILE)
    run_folder.create(folder / "run", info(1.0 + number), str(config_file))


def sweep(folder, number):
    run_folder.write_sweep(folder, ["a", "b", "c"][: number + 1])


def calibrate(folder, number):
    write_json(folder / "detector.json", {"step": number, "detectors": []})


def evaluate(folder, number):
    result = StreamResult.from_json({**_RESULT, "step": number})
    trace = Trace(*(np.full(9, number) for _ in Trace._fields))
    save_stream_result(folder, result, trace, {"envelope": np.zeros(number + 1)})


def packed(folder, number):
    with new_folder(folder / "model") as new:
        params = {"net": {"a": np.full(5, number, np.float32)}}
        pack.write(new, folder, info(1.0), number, params, f"# {number}\n")


def prepared(folder, number):
    corpus = folder.parent / f"corpus{number}"
    if not corpus.exists():
        for word in ("yes", "no"):
            (corpus / word).mkdir(parents=True)
            for i in range(3):
                samples = np.random.default_rng([number, i]).uniform(-0.1, 0.1, 200)
                soundfile.write(corpus / word / f"s{i}_nohash_0.wav", samples, 16_000)
    argv = [f"--data={corpus}", f"--out={folder / 'cache'}", "--words=yes,no", "--jobs=1"]
    if prepare.main(["prepare", *argv, "--overwrite"]):
        raise OSError("prepare failed")


def content(folder):
    """What lies there, by name; what a killed process left is swept when it is written again."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".partial" not in str(path)
    }


def attempt(act, folder, fault):
    """Do it with a fault; whether it failed. What dies is another process."""
    if fault.error != DIE:
        try:
            with failing(fault):
                act(folder, 1)
        except OSError:
            return True
        return False
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        try:
            with failing(fault):
                act(folder, 1)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.parametrize(
    ("act", "error"),
    [
        *((act, "ENOSPC") for act in (create, sweep, calibrate, evaluate, packed, prepared)),
        *((act, "death") for act in (create, sweep, calibrate, evaluate, packed, prepared)),
        *((act, "EIO") for act in (sweep, calibrate, evaluate)),
    ],
)
def test_a_fault_at_any_point_leaves_old_or_new(tmp_path, capsys, act, error):
    folder = tmp_path / "kept"
    folder.mkdir()
    act(folder, 1)
    new = content(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    act(folder, 0)
    old = content(folder)
    assert old != new
    with failing(Fault(ERRORS[error], at=-1)) as counted:
        act(folder, 0)
    assert counted.count >= 4
    failed = 0
    for at in range(counted.count):
        if attempt(act, folder, Fault(ERRORS[error], at=at)):
            failed += 1
            found = content(folder)
            if error == "death":  # of several files each is whole; a folder may be away for a while
                assert all(data in (old[name], new[name]) for name, data in found.items())
            else:
                assert found == old, counted.seen[at]
                assert not list(folder.rglob("*.partial"))
        act(folder, 1)
        assert content(folder) == new, counted.seen[at]
        assert not list(folder.rglob("*.partial"))
        act(folder, 0)
    assert failed >= 3
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    print(f"{act.__name__}, {error}: {counted.count} points, {failed} failed, nothing lost")


def test_faults_are_seen(tmp_path: Path):
    with failing(Fault(28, at=0)), pytest.raises(OSError, match="injected"):
        write_json(tmp_path / "new" / "a.json", {})
    write_json(tmp_path / "a.json", {"a": 1})
    with failing(Fault(28, at=-1)) as counted:
        write_json(tmp_path / "a.json", {"a": 2})
    assert {"write", "fsync", "replace"} <= set(counted.seen)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 2}
