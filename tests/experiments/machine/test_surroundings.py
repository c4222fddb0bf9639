"""Commands where an environment variable, the user or the folder is another than usual."""

import os
import subprocess
import sys

import pytest

from experiments.machine import jax_setup
from experiments.machine.host import user_cache
from tests.helpers.places import ROOT

LISTEN = [sys.executable, "-m", "experiments.listen", "--wav"]


def run(tmp_path, *unset, **given):
    """`listen` on a file that is none, which needs all that comes before it is opened."""
    environ = {name: value for name, value in os.environ.items() if name not in unset}
    environ |= {"PYTHONPATH": str(ROOT), **given}
    return subprocess.run(
        [*LISTEN, "none.wav"], env=environ, cwd=tmp_path, capture_output=True, text=True
    )


def test_a_platform_that_is_not_here_is_named(tmp_path):
    done = run(tmp_path, JAX_PLATFORMS="tpu")
    assert done.returncode == 1
    assert done.stderr.startswith("error: JAX_PLATFORMS: expected a platform that jax finds here")
    assert done.stderr.count("\n") == 1


def test_flags_for_xla_may_lie_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "flags").write_text("--xla_a=1\n--xla_b=2\n")
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    jax_setup.prepare_platform()
    first, second, third = os.environ["XLA_FLAGS"].split()
    assert (first, second) == ("--xla_a=1", "--xla_b=2")
    assert third.startswith("--xla_cpu_")
    monkeypatch.setenv("XLA_FLAGS", "no such file")
    jax_setup.prepare_platform()
    assert os.environ["XLA_FLAGS"] == "no such file"  # XLA says what is wrong with it


def test_without_a_home_nothing_is_kept_and_nothing_fails(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(jax_setup.Path, "home", lambda: Path_home())
    with pytest.raises(OSError, match="set HOME or XDG_CACHE_HOME"):
        user_cache()
    jax_setup.keep_programs()


def Path_home():
    raise RuntimeError("Could not determine home directory.")
