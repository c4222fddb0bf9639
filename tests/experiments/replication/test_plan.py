"""The plan: what stands on what, that each command can be typed, and which networks they train."""

import importlib
from pathlib import Path

import pytest
from absl import flags

from experiments.config import Hooks, load_config, override
from experiments.config.model import build_model
from experiments.replication.plan import NETWORKS, Setup, cells, digests, folder_of, plan
from experiments.replication.scales import PRICES, SCALES
from sanas_jax.costs import edge_macs

PREPARE = ("data_prep.prepare", "--data", "/words", "--out", "runs/here/cache")


def setup(scale="small", seeds=2, out="runs/here", prepare=(PREPARE,)):
    return Setup(scale, seeds, Path(out), Path(out) / "cache", prepare)


def test_every_step_stands_on_earlier_ones():
    before = set()
    for step in plan(setup()):
        assert step.leaves
        assert set(step.after) <= before
        assert step.name not in before
        before.add(step.name)


def test_a_seed_trains_evaluates_and_is_done_before_the_next():
    names = [step.name for step in plan(setup()) if "seed" in step.name]
    kinds = ["chain", "static", "longer", "sanas", "told"]
    kinds += ["protocol", "detectors", "calibrated", "clips"]
    assert names == [f"{kind}, seed {seed}" for seed in range(2) for kind in kinds]


def test_streams_are_three_of_an_hour_at_full_scale():
    words = [step.words for step in plan(setup("full")) if step.name.startswith("stream test")]
    assert [" ".join(w[3:9]) for w in words] == [
        f"--split testing --minutes 60 --seed {seed}" for seed in range(3)
    ]


def test_short_is_the_whole_network_for_as_long_as_small():
    assert SCALES["short"].config == SCALES["full"].config
    same = ("seeds", "static_steps", "adaptive_steps", "test_minutes", "validation_minutes")
    for name in same:
        assert getattr(SCALES["short"], name) == getattr(SCALES["small"], name), name


def test_prices_are_six_at_least_and_within_what_is_learnt():
    assert len(PRICES) >= 6
    trained = [c.price for c in cells() if c.network == "sanas"]
    told = [c.told for c in cells() if c.told is not None]
    assert trained == told == list(PRICES)
    (told,) = (step.training for step in plan(setup(seeds=1)) if step.name == "told, seed 0")
    low, high = load_config(str(told.config))[0].train.cost_weight_range
    assert low <= min(PRICES) < max(PRICES) <= high


@pytest.mark.parametrize("scale", SCALES)
def test_every_command_can_be_typed(scale):
    for step in plan(setup(scale)):
        values = flags.FlagValues()
        importlib.import_module(step.words[0]).define_flags(values)
        assert values(step.words) == [step.words[0]]


@pytest.mark.parametrize("scale", SCALES)
def test_every_training_has_a_config_that_can_be(scale):
    size = SCALES[scale]
    for training in (step.training for step in plan(setup(scale)) if step.training):
        config = override(load_config(str(training.config))[0], training.settings)
        from_weights = NETWORKS[training.network].begins_from is not None
        assert config.train.steps == (size.adaptive_steps if from_weights else size.static_steps)
        assert config.train.seed == training.seed
        assert config.model.conditioned == (training.network == "told")
        assert config.model.static == (training.network in ("chain", "static", "longer"))


def test_the_networks_of_full_scale_are_the_papers():
    found = {}
    for training in (step.training for step in plan(setup("full", seeds=1)) if step.training):
        config = override(load_config(str(training.config))[0], training.settings)
        found[training.network] = sum(edge_macs(build_model(config, 12, Hooks()).net).values())
    assert found.pop("chain") == 124_593_664
    assert set(found.values()) == {137_288_192}


def test_a_sweep_leaves_a_run_for_each_price_at_its_last_step():
    step = next(step for step in plan(setup()) if step.name == "sanas, seed 1")
    folders = [folder_of(Path("runs/here"), 1, c) for c in cells() if c.network == "sanas"]
    assert list(step.leaves) == [folder / "checkpoints" / "600" for folder in folders]
    assert folders[0] == Path("runs/here/seed_1/sanas/lambda_0.1")


def test_a_cache_is_not_prepared_again():
    names = [step.name for step in plan(setup(prepare=()))]
    assert names[0] == "estimate"
    assert "prepare" not in names


def test_more_seeds_leave_what_is_done_as_it_is():
    one, three = (digests(plan(setup(seeds=n)), Path("runs/here")) for n in (1, 3))
    assert one.items() <= three.items()


def test_digests_tell_other_data_and_not_where_a_folder_lies():
    here = digests(plan(setup()), Path("runs/here"))
    moved = ("data_prep.prepare", "--data", "/words", "--out", "moved/cache")
    assert digests(plan(setup(out="moved", prepare=(moved,))), Path("moved")) == here
    others = ("data_prep.prepare", "--data", "/others", "--out", "runs/here/cache")
    other = digests(plan(setup(prepare=(others,))), Path("runs/here"))
    assert not set(other.values()) & set(here.values()) - {here["estimate"]}
