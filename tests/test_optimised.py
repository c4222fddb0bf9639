"""A handful of tests as users run the code: the others compile with XLA's optimisations off."""

import os
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

HANDFUL = (
    "tests/sanas_jax/kernels/test_depthwise.py",
    "tests/sanas_jax/kernels/test_sliding.py",
    "tests/sanas_jax/test_forward.py::test_trunk_and_join_equal_forward",
    "tests/sanas_jax/streaming/test_step.py::test_an_edge_catches_up_with_what_it_missed",
    "tests/sanas_jax/training/test_update.py::test_metrics_against_a_second_rollout",
)


@pytest.mark.slow
def test_a_handful_holds_at_full_optimisation():
    # That of `jax_setup`, which every command has.
    flags = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
    environment = os.environ | {"XLA_FLAGS": flags}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    # What an accelerator is given is compiled for a CPU by no user.
    command += ["-k", "not accelerator"]
    done = subprocess.run(
        [*command, *HANDFUL], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
