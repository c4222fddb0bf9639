"""The examples of examples/ that need no exported model."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from tests.helpers.places import ROOT


def read(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["own_network", "own_cost"])
def test_an_example_fits_a_page(name):
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static", "stream"])
def test_own_network_buys_less_at_a_higher_price(name):
    train = getattr(read("own_network"), name)
    free, dear = jax.jit(jax.vmap(train))(jnp.array([0.0, 3.0]))
    assert free > 0.9, "what costs nothing is used"
    assert dear < 0.2, "waves are not worth it"


@pytest.mark.parametrize("name", ["static", "stream"])
def test_own_network_is_traced_for_many_prices(name):
    train = getattr(read("own_network"), name)
    assert jax.eval_shape(jax.vmap(train), jnp.ones(3)).shape == (3,)


def test_own_cost_charges_shares():
    example = read("own_cost")
    shares = example.charge(jax.random.key(0))
    assert set(shares) == set(example.COSTS)
    on, off = jnp.ones(len(example.NET.edges)), jnp.zeros(len(example.NET.edges))
    for name, cost in example.SHARES.items():
        assert shares[name].shape == (8,)
        assert ((shares[name] >= 0) & (shares[name] <= 1)).all(), name
        assert cost(on) == pytest.approx(1, rel=1e-6)
        assert cost(off) == 0
