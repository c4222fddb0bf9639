"""The models that come with the package: complete, small, quiet and cheap in silence."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evaluation.stream_inference import run_group
from experiments.flags.one_model import default_price
from experiments.runs import packed
from experiments.runs.packed import SHIPPED
from experiments.runs.trained import read_model
from sanas_jax.costs import edge_macs

NAMES = sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir())


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return read_model(f"pretrained:{request.param}")


def test_they_are_there():
    assert NAMES == ["kws", "kws_modern", "kws_noise"]


def test_it_is_small_and_says_what_it_is(model):
    files = list(model.workdir.iterdir())
    assert sum(file.stat().st_size for file in files) <= 3_000_000
    about = (model.workdir / "README.md").read_text()
    for word in ("experiments.launch", "CC BY 4.0", "correct %"):
        assert word in about
    assert set(model.params["net"]) == set(edge_macs(model.sanas.net))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))
    detectors = json.loads((model.workdir / "detector.json").read_text())["detectors"]
    told = dict.fromkeys(row["cost_weight"] for row in detectors)  # a price for each of its rates
    prices = {*model.prices}
    if model.workdir.name == "kws":  # those of before have none for what `listen` tells
        prices.add(default_price(model))
    assert list(told) == pytest.approx(sorted(prices))


def test_it_is_quiet_in_silence_and_the_one_for_quiet_rooms_cheap(model):
    rate = model.info.frontend.sample_rate
    hiss = 1e-3 * jax.random.normal(jax.random.key(0), (4 * rate,))
    own = [(model.params, model.info.frontend)]
    found = run_group(model.sanas, False, own, model.prices, [np.asarray(hiss)])
    macs = jnp.array(list(edge_macs(model.sanas.net).values()))
    for price in range(len(model.prices)):
        assert (found.posteriors[0][price][0].argmax(1) == 0).all()
        spent = found.live[0][price][0] @ macs
        if model.workdir.name == "kws_modern":
            assert jnp.median(spent) < 0.05 * macs.sum()  # at its first step it looks closely


@pytest.mark.parametrize("name", ["kws", "kws_noise"])
def test_those_for_noise_hear_no_word_in_it(name):
    model = read_model(f"pretrained:{name}")
    rate = model.info.frontend.sample_rate
    noise = np.asarray(0.03 * jax.random.normal(jax.random.key(0), (20 * rate,)))
    own = [(model.params, model.info.frontend)]
    prices = model.prices[::4]
    found = run_group(model.sanas, False, own, prices, [noise])
    for posteriors in found.posteriors[0]:
        assert (posteriors[0].argmax(1) == 0).mean() > 0.95


def test_a_model_of_an_earlier_version_is_read_with_a_line(capsys):
    packed._say_old.cache_clear()
    for _ in range(2):
        read_model("pretrained:kws_noise")
    assert capsys.readouterr().err.count("pretrained:kws hears more") == 1
    read_model("pretrained:kws")
    assert not capsys.readouterr().err
