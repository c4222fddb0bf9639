"""A small network, something to hear, and what a session says to it."""

import jax
import numpy as np
import pytest

from experiments.config import Config, ModelConfig, load_config
from experiments.runs import folder as run_folder
from experiments.runs.packed import write_params
from experiments.runs.trained import model_of, read_model
from sanas_jax.rollout import init_model
from tests.helpers.export_command import listened, make_lively
from tests.helpers.packed import write_described
from tests.helpers.runs import CONFIG_FILE
from tests.helpers.toy import CLASSES

SEPARABLE = ModelConfig(family="separable", conditioned=True, state_size=6)
BUILD_NET = """
from sanas_jax.spaces import separable


def build_net(config, num_classes):
    return separable(
        num_classes=num_classes,
        wide=((4, 5, 2), (6, 9, 1)),
        slim=((3, 9, 4),),
        exits=(1,),
        features=8,
    )
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A packed network of the shipped one's family: blocks over rows, exits, reuse."""
    folder = tmp_path_factory.mktemp("packed") / "small"
    write_described(folder, Config(model=SEPARABLE))
    config_file = tmp_path_factory.mktemp("config") / "config.py"
    config_file.write_text(CONFIG_FILE + BUILD_NET)
    _, hooks = load_config(str(config_file))
    run_folder.create(folder, run_folder.read(folder)._replace(hooks=hooks), str(config_file))
    model = model_of(run_folder.read(folder, trust=True))
    params = make_lively(init_model(model, jax.random.key(1)))
    kernel = np.random.default_rng(78).standard_normal((8, len(CLASSES)))  # words do fire
    params["net"]["out"]["Dense_0"]["kernel"] = kernel
    write_params(folder, 120, params)
    return folder


@pytest.fixture(scope="module")
def audio():
    """Noise whose loudness changes."""
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0, 0.3, 32) * (rng.random(32) < 0.6), 4000)
    return (loud * rng.standard_normal(len(loud))).astype(np.float32)


@pytest.fixture(scope="module")
def expected(small, audio):
    heard = listened(small, audio)
    live = np.stack([h.live for h in heard])
    gated = [edge.gated for edge in read_model(small, trust=True).sanas.net.edges]
    assert ((live.mean(0) > 0.05) & (live.mean(0) < 0.95))[gated].sum() >= 3
    return heard
