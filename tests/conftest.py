"""Settings shared by all tests: they hold before jax is imported."""

import os
import signal
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The flag of `jax_setup`; and less optimisation, since the tests' time is the compilation
# of many small programs.
_FLAGS = [
    "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
]
# XLA's older code for fusions compiles in half the time. It is gone from later versions, to which
# a flag that they do not know is fatal.
if version("jaxlib").startswith("0.10."):
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))
# As glibc has it, said aloud: `jax_setup.keep_memory` then leaves malloc alone. Memory that
# thousands of programs are compiled in is not used again.
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "131072")
# Workers, and runs that are killed, resumed and repeated, compile the same programs.
_CACHE = tempfile.TemporaryDirectory(prefix="sanas-jax-compiled-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# A shell's background is deaf to Ctrl-C and `nohup` to SIGHUP, and so were the commands that the
# tests interrupt.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"
SPEECH = Path(__file__).resolve().parents[2] / "shared" / "data" / "speech_commands"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the authors' numbers; tests that need it skip where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip("the folder of reference numbers is not here")
    return REFERENCE


@pytest.fixture(scope="session")
def speech_commands() -> Path:
    """Folder of real speech; tests that need it skip where it is absent."""
    if not SPEECH.is_dir():
        pytest.skip("the folder of real speech is not here")
    return SPEECH


@pytest.fixture
def strict() -> Iterator[None]:
    """Silent rank promotion raises. The core's tests use it.

    Not for all tests: `features` normalises [..., F] by [F], which is what promotion is for.
    """
    import jax

    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test; compiled functions of the other tests are not touched."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["cpu", "accelerator"], scope="module")
def branch(request: pytest.FixtureRequest) -> Iterator[str]:
    """A module's tests twice: with the forms of a computation that a CPU takes, and with those that
    an accelerator does."""
    import jax

    with pytest.MonkeyPatch.context() as patch:
        if request.param == "accelerator":
            jax.clear_caches()  # what was traced for a CPU
            patch.setattr(jax.lax, "platform_dependent", lambda *args, default, **_: default(*args))
        yield request.param
    if request.param == "accelerator":
        jax.clear_caches()
