"""A packed model of a small network that nobody trained."""

from pathlib import Path

import jax
import numpy as np

from experiments import workdir as workdir_lib
from experiments.build import build
from experiments.config import Config, Hooks, ModelConfig
from experiments.pretrained import stored_parts, write_params
from experiments.workdir import RunInfo
from sanas_jax.features import Frontend
from sanas_jax.rollout import init_model
from tests.runs import CONFIG_FILE
from tests.toy import CLASSES, mel_matrix


def write_packed(folder: Path, model: ModelConfig, classes=CLASSES, seed: int = 7) -> dict:
    """Write a packed model; returns its parameters, also those that are not stored."""
    config = Config(model=model)
    frontend = Frontend.create(mel_matrix(), mean=np.linspace(-1, 1, 40), std=np.linspace(1, 2, 40))
    weights = np.linspace(0.5, 1.5, len(classes))
    info = RunInfo(config, Hooks(), tuple(classes), "ab" * 32, frontend, weights)
    config_file = folder.parent / "made_config.py"
    folder.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(CONFIG_FILE)
    workdir_lib.create(folder, info, str(config_file))
    built = build(config, len(classes), Hooks())
    params = init_model(built.model, jax.random.key(seed))
    write_params(folder, 120, stored_parts(params, model.static))
    return params
