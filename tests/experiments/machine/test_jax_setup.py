"""What malloc keeps: seen in a process of its own, in which a thread uses 64 MB again and again."""

import os
import platform
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

CODE = """
import ctypes, resource, threading
from experiments.machine.jax_setup import keep_memory
keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use():
    size = 64 * 2**20
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        array = libc.malloc(size)
        libc.memset(array, 1, size)
        libc.free(array)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=use)
thread.start()
thread.join()
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="of glibc"
)


def page_faults(**given):
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    env.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=env | given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_is_used_again():
    assert page_faults() < 16


def test_what_the_user_set_stays():
    assert page_faults(MALLOC_ARENA_MAX="2") > 16
