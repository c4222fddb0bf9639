"""How runs are spread over programs and devices, and what a user may ask of that."""

import types

import jax
import pytest
from absl import flags

from experiments.flags.training import define_flags, start
from experiments.machine import multihost
from experiments.machine.execution import Execution
from sanas_jax.sharding import make_mesh


def parse(*arguments):
    values = flags.FlagValues()
    define_flags(values)
    values(["prog", "--config=any.py", *arguments])
    return values


def test_one_device_needs_no_mesh():
    assert make_mesh(jax.devices()[:1], 3, 8) is None


@pytest.mark.parametrize(
    ("devices", "budgets", "rows", "shape"),
    [(8, 1, 64, (1, 8)), (8, 6, 64, (2, 4)), (8, 8, 3, (8, 1)), (4, 3, 8, (1, 4))],
)
def test_budgets_are_shared_out_first_then_rows(devices, budgets, rows, shape, monkeypatch):
    made = []
    monkeypatch.setattr("sanas_jax.sharding.Mesh", lambda array, names: made.append(array.shape))
    make_mesh([object()] * devices, budgets, rows)
    assert made == [shape]


def test_rows_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ValueError, match="expected a multiple of 4, for 8 devices and 2 budgets"):
        make_mesh([object()] * 8, 2, 6)


def test_steps_of_a_program(monkeypatch):
    assert Execution().steps_at_once(10) == 1  # a CPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert Execution().steps_at_once(10) == 10
    assert Execution().steps_at_once(25) == 5
    assert Execution(steps_per_dispatch=25).steps_at_once(50) == 25
    with pytest.raises(ValueError, match=r"expected a divisor of train.log_every=10, got 3"):
        Execution(steps_per_dispatch=3).steps_at_once(10)


def test_room_for_data(monkeypatch):
    assert Execution(data_megabytes=3).data_limit() == 3 * 2**20
    assert Execution().data_limit() > 2**27  # half of this machine's memory
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 1000})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert Execution().data_limit() == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=a:1"], "expected --coordinator, --num_processes and --process_id"),
        (["--process_id=0", "--num_processes=2"], "expected --coordinator, --num_processes and"),
        (
            ["--coordinator=a:1", "--process_id=2", "--num_processes=2"],
            "--process_id: expected less than --num_processes=2, got 2",
        ),
        (
            ["--coordinator=host", "--process_id=0", "--num_processes=2"],
            "--coordinator: expected host:port, got host",
        ),
    ],
)
def test_half_told_processes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        start(parse(*arguments))


def test_a_cluster_that_is_none_is_one_line(monkeypatch):
    def initialize(**options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match="--distributed: could not join the other processes: coo"):
        start(parse("--distributed"))


def test_alone_errors_pass_through(capsys):
    with pytest.raises(ValueError, match="of mine"), multihost.failing_at_once():
        raise ValueError("of mine")
    assert capsys.readouterr().err == ""


@pytest.fixture
def no_cache():
    """No folder for compiled programs, for one test."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept_in_a_folder_of_this_kind_of_cpu(no_cache, tmp_path):
    start(parse("--compilation_cache=none"))
    assert jax.config.jax_compilation_cache_dir is None
    start(parse(f"--compilation_cache={tmp_path}"))
    kept = jax.config.jax_compilation_cache_dir
    assert kept.startswith(f"{tmp_path}/")
    start(parse("--compilation_cache=elsewhere"))  # jax's own setting goes first
    assert kept == jax.config.jax_compilation_cache_dir


def test_a_folder_that_cannot_be_is_refused_if_asked_for(no_cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--compilation_cache: expected a folder or 'none', got"):
        start(parse(f"--compilation_cache={tmp_path / 'file'}"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    start(parse())
    assert jax.config.jax_compilation_cache_dir is None
