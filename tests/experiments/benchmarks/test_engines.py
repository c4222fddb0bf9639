"""The table of engines on made-up times: where they go, and what is saved."""

from types import SimpleNamespace

import pytest

from experiments.benchmarks import engines
from tests.helpers.nets_in_c import front_of, gated, model_of


def side(seconds, macs, front=None):
    found = {"cpu_seconds": seconds, "macs": macs}
    return found if front is None else found | {"frontend_seconds": front}


ROWS = {
    "λ = 1, native": side(90e-6, 300_000, 20e-6),
    "λ = 1, native call": side(50e-6, 300_000),
    "everything on, native": side(120e-6, 1_200_000, 20e-6),
    "everything on, native call": side(100e-6, 1_200_000),
}


def test_a_decision_is_front_end_network_and_python():
    _, first, last = engines._shares(ROWS)
    assert first.split()[-3:] == ["20.0", "30.0", "40.0"]
    assert last.split()[-3:] == ["20.0", "80.0", "20.0"]


def test_where_no_front_end_was_timed_there_is_no_table_of_it():
    rows = {name: side(each["cpu_seconds"], each["macs"]) for name, each in ROWS.items()}
    assert engines._shares(rows) == []


def test_what_plain_cannot_run_is_refused_by_its_flag():
    model, params = model_of(gated())
    made = SimpleNamespace(
        sanas=model, params=params, static=False, info=SimpleNamespace(frontend=front_of(model.net))
    )
    with pytest.raises(ValueError, match=r"--plain: edge 'energy': expected a block .* Energies"):
        engines._plain_engines(made)


def test_what_is_saved_is_of_the_same_engine_with_everything_on():
    _, session, call = engines._saved(ROWS)
    assert session.split()[-2:] == ["75.0%", "25.0%"]
    assert call.split()[-2:] == ["75.0%", "50.0%"]
