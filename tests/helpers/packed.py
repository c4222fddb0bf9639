"""Packed models and runs of small networks that nobody trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import Config, DataConfig, Hooks, ModelConfig, TrainConfig
from experiments.config.build import Training, build_training
from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.folder import RunInfo
from experiments.runs.packed import stored_parts, write_params
from experiments.training.init_from import fresh_member
from sanas_jax.data.features import Frontend
from sanas_jax.rollout import init_model
from tests.helpers.runs import CONFIG_FILE, write_lines
from tests.helpers.toy import CLASSES, mel_matrix


def write_described(
    folder: Path, config: Config, classes: Sequence[str] = CLASSES, max_hz: int | None = None
) -> Training:
    """A run's folder without any parameters; returns the library's objects."""
    mel = mel_matrix(max_hz)
    frontend = Frontend.create(mel, mean=np.linspace(-1, 1, 40), std=np.linspace(1, 2, 40))
    weights = jnp.linspace(0.5, 1.5, len(classes))
    info = RunInfo(config, Hooks(), tuple(classes), "ab" * 32, frontend, weights)
    config_file = folder.parent / "made_config.py"
    folder.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(CONFIG_FILE)
    run_folder.create(folder, info, str(config_file))
    return build_training(config, len(classes), Hooks())


def write_packed(
    folder: Path,
    model: ModelConfig,
    classes: Sequence[str] = CLASSES,
    seed: int = 7,
    data: DataConfig | None = None,
    max_hz: int | None = None,
    train: TrainConfig | None = None,
) -> dict[str, Any]:
    """Write a packed model; returns its parameters, also those that are not stored."""
    config = Config(model=model, data=data or DataConfig(), train=train or TrainConfig())
    built = write_described(folder, config, classes, max_hz)
    params = init_model(built.model, jax.random.key(seed))
    write_params(folder, 120, stored_parts(params, model.static))
    return params


def write_conditioned_run(folder: Path) -> None:
    """A run of a conditioned network with a checkpoint and a calibration, none of it trained."""
    model = ModelConfig(maps=(2, 2), state_size=4, conditioned=True, gate_bias=0.3)
    data = DataConfig(cache=str(folder.parent / "cache"))
    built = write_described(folder, Config(model=model, data=data))
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(4, fresh_member(built, jax.random.key(7)))
    checkpoints.close()
    table = [{"cost_weight": w, "macs_per_frame": 1e6 / w} for w in (0.1, 1.0, 5.0)]
    lines = [{"step": 4, "split": split} for split in ("training", "validation")]
    lines[1] |= {"calibration": table}
    write_lines(folder, lines)
