"""Adaptive networks beside architectures that stay the same, on streams of noise."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.datasets.streams import Stream
from experiments.evaluation.stream_inference import run_models
from experiments.runs import folder as run_folder
from experiments.runs.stored_results import Trace
from experiments.runs.trained import TrainedModel, model_of
from experiments.search import adapting
from experiments.search.comparison import Options
from experiments.search.methods import Search
from sanas_jax.rollout import init_model
from tests.helpers.runs import write_run

SEARCH = Search(evaluations=5, population=3, tournament=2, at_once=4)


def write_model(folder, seed):
    write_run(folder)
    info = run_folder.read(folder)
    info = info._replace(
        config=dataclasses.replace(
            info.config, model=dataclasses.replace(info.config.model, gate_bias=0.5)
        )
    )
    sanas = model_of(info)
    return TrainedModel(folder, info, sanas, 150, init_model(sanas, jax.random.key(seed)), [0.25])


def stream(name, seed):
    samples = np.random.default_rng(seed).standard_normal(16_000 * 8).astype(np.float32)
    return Stream(name, 0.1 * samples, 16_000, ["yes", "no"], [1000, 4000])


def test_frame_score_by_hand():
    posteriors = np.array([[0.5, 0.5, 0], [0.25, 0.75, 0], [0, 0, 1]], np.float32)
    traces = [
        Trace(np.arange(2), posteriors[:2], np.ones((2, 1)), np.array([0, 0])),
        Trace(np.arange(1), posteriors[2:], np.ones((1, 1)), np.array([2])),
    ]
    score = adapting.frame_score(traces)
    assert score.accuracy == pytest.approx(2 / 3)
    assert score.loss == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 3)


@pytest.mark.slow
def test_what_stays_the_same_costs_no_more_than_what_adapts(tmp_path, monkeypatch):
    model = write_model(tmp_path / "net", 1)
    choose_on, told = [stream("v", 0)], [stream("a", 1), stream("b", 2)]
    options = Options(out=tmp_path / "out", search=SEARCH)
    found = adapting.compare_streams([model], [model], choose_on, told, options)
    assert [one.found_by for one in found] == ["adapting", "random", "evolution"]
    adaptive, *still = found
    (by_hand, *_), table = run_models([model], told), np.array([*model.edge_macs.values()])
    spent = (by_hand.trace.live @ table).mean() + model.controller_macs
    assert adaptive.macs[0] == pytest.approx(spent)
    right = (by_hand.trace.posteriors.argmax(1) == by_hand.trace.labels).mean()
    assert adaptive.frames[0] == pytest.approx(100 * right)
    validation = next(iter(run_models([model], choose_on)))
    budget = (validation.trace.live @ table).mean() + model.controller_macs
    for one in still:
        assert one.macs == [pytest.approx(sum(model.edge_macs[e] for e in one.edges))] * 2
        assert one.macs[0] <= budget * 1.001
    assert len(adapting.heard_table(found).splitlines()) == 4
    assert set(adapting.heard_panels(found)) == {"frames right", "correct - wrong words"}

    asked = []
    whole = adapting.run_architectures
    monkeypatch.setattr(
        adapting, "run_architectures", lambda *args: asked.append(len(args[2])) or whole(*args)
    )
    assert adapting.compare_streams([model], [model], choose_on, told, options) == found
    assert asked == [3]  # all streams once, for what was chosen: nothing is scored again
