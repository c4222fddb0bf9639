"""A stream is heard on the CPU, unless another device is asked for."""

import os
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

CODE = """
import jax
from experiments.machine.jax_setup import prepare_streaming
prepare_streaming()
print(jax.config.jax_platforms)
"""


@pytest.mark.parametrize(("asked", "chosen"), [(None, "cpu"), ("cuda,cpu", "cuda,cpu")])
def test_the_cpu_unless_another_is_asked_for(asked, chosen):
    env = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    env |= {} if asked is None else {"JAX_PLATFORMS": asked}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [chosen]
