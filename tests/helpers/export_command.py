"""Exports that tests make by the command, and what a session hears that is asked the same."""

import json
import sys

import jax
import numpy as np
import pytest

from experiments.export import cli
from experiments.live.engine import runtime_of
from experiments.runs.trained import read_model
from sanas_jax.streaming.session import Session

PRICES = (0.5, 2.0)
CHANGE = 12  # the step at which the price changes


def make_lively(params):
    """Gates that move, and statistics as if there had been data."""
    rng = np.random.default_rng(3)
    if "stats" in params:
        params["stats"] = jax.tree.map(
            lambda x: x * rng.uniform(0.5, 1.5, x.shape) + rng.uniform(0, 0.5, x.shape),
            params["stats"],
        )
    head = params["controller"]["head"]
    head["kernel"] = 3 * rng.standard_normal(head["kernel"].shape)
    return params


def listened(reference, audio, prices=PRICES, detector=None):
    """What a session hears; the second price holds from step `CHANGE` on."""
    model = read_model(reference, trust=True)
    session = Session(runtime_of(model), cost_weight=prices[0], detector=detector)
    heard = []
    for sample in range(0, len(audio), 1000):
        heard += session.push(audio[sample : sample + 1000])
        if len(heard) == CHANGE and prices[1] is not None:
            session.tell(prices[1])
            prices = (prices[1], None)
    return heard + session.finish()


def command(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["export", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        cli()
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def exported(monkeypatch, capsys, folder, out, *argv, price=PRICES[0]):
    told = ["--trust"] if price is None else ["--trust", "--cost_weight", price]
    code, said, err = command(monkeypatch, capsys, "--workdir", folder, "--out", out, *told, *argv)
    assert (code, err) == (0, "")
    assert said.startswith(f"wrote {out}")
    return json.loads((out / "description.json").read_text())


def assert_same(heard, posteriors, live, gammas, atol):
    assert len(heard) == len(posteriors)
    np.testing.assert_array_equal(live, [h.live for h in heard])
    np.testing.assert_allclose(posteriors, [h.posterior for h in heard], atol=atol)
    np.testing.assert_allclose(gammas, [h.gamma for h in heard], atol=atol)
