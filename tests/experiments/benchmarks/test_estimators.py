"""The benchmark of estimators, on tones and a network of one map."""

import json

import jax.numpy as jnp
import pytest

from data_prep.command.cli import run
from experiments.benchmarks import estimators as benchmark
from experiments.benchmarks.estimators import Way
from sanas_jax.estimators import Estimator, disarm, leave_one_out
from tests.helpers.toy import write_toy_cache

pytestmark = pytest.mark.slow

CONFIG = """
from experiments.config import Config, DataConfig, ModelConfig


def get_config():
    model = ModelConfig(family="cnn-one-fpool3", maps=(1,), state_size=3, gate_bias=0.7)
    return Config(model=model, data=DataConfig(max_seconds=1.5))
"""
WAYS = [Way("first", leave_one_out(), 4), Way("pairs", disarm(), 1)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    monkeypatch.setattr(benchmark, "CONFIG", config)
    monkeypatch.setattr(benchmark, "WARM_UP", 1)
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    monkeypatch.setattr(benchmark, "ways", lambda state_size: WAYS)
    return write_toy_cache(tmp_path / "cache")


def command(*arguments):
    return run(benchmark.define_flags, benchmark.main, "", ["prog", *arguments])


@pytest.mark.slow
def test_command_measures_and_writes(cache, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert command(f"--data={cache}", "--batch=4", "--draws=64", f"--json={out}") == 0
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == ["first", "pairs"]
    for row in rows.values():
        assert 0 < row["bias"] < 3 * row["chance"]
        assert row["seconds"] > 0
        assert row["variance γ=0"] > 0
    assert "variance γ=1" in rows["first"]
    assert "variance γ=1" not in rows["pairs"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[-1] == "1.00"
    assert lines[3].split()[-1] == "–"


@pytest.mark.slow
def test_a_wrong_estimator_is_found_out(cache):
    """A baseline with the sample in it: here all of it, which leaves no gradient."""
    problem = benchmark.read_problem(str(cache), None, "latest", 4)
    short = problem._replace(batch=benchmark._first_step(problem.batch, 101))
    wrong = Estimator(lambda: (), lambda state, returns, mask, z: returns, lambda state, *_: state)
    grads = benchmark.draw_gradients(short, Way("wrong", wrong, 1), 0.0, 16)
    assert jnp.abs(benchmark.exact_gradient(short)).max() > 1e-4
    assert jnp.abs(grads).max() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--data"),
        (("--data=/no/such/cache",), "/no/such/cache"),
        (("--data=x", "--batch=1"), "batch"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert command(*arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
