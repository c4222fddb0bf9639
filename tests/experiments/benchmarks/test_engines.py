"""The table of engines on made-up times: where they go, and what is saved."""

from experiments.benchmarks import engines


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


def test_what_is_saved_is_of_the_same_engine_with_everything_on():
    _, session, call = engines._saved(ROWS)
    assert session.split()[-2:] == ["75.0%", "25.0%"]
    assert call.split()[-2:] == ["75.0%", "50.0%"]
