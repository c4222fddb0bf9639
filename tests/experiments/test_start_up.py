"""What a command does before it answers: how much it compiles, and what it imports."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.helpers.places import ROOT

COUNT = """
import sys
import jax
compiled = []
name = "/jax/core/compile/backend_compile_duration"
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **rest: compiled.append(rest) if event == name else None
)
"""
READ = """
from experiments.runs.trained import read_model
read_model("pretrained:kws")
print(len(compiled))
"""
LISTEN = """
from experiments import listen
from data_prep.command.cli import run
status = run(listen.define_flags, listen.main, "", ["listen", "--wav", sys.argv[1]])
print(len(compiled), status)
"""
DOORS = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_reading_a_model_compiles_nothing():
    assert python(COUNT + READ) == ["0"]


@pytest.mark.slow
def test_listening_compiles_few_programs(tmp_path, monkeypatch):
    # Of what other tests have compiled before, it would compile nothing.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000, np.float32), 16_000)
    compiled, status = map(int, python(COUNT + LISTEN, tmp_path / "a.wav"))
    assert status == 0
    assert 1 <= compiled <= 6


def test_help_waits_for_no_jax():
    """Of every command, from its entry point on; one after the other, since none ends Python."""
    code = f"""import importlib, sys
for name in {list(DOORS)}:
    sys.argv = [name, "--help"]
    try:
        importlib.import_module("experiments." + name).cli()
    except SystemExit as stopped:
        assert not stopped.code, name
print(*[name for name in ("jax", "matplotlib", "scipy") if name in sys.modules], "-")
"""
    assert python(code) == ["-"]
