"""What a run left in its folder, for comparing two."""

import jax
import numpy as np

from experiments.runs import folder as run_folder
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.trained import training_of
from sanas_jax.training import init_state
from sanas_jax.training.budgets import init_member


def final_state(folder):
    """Everything a run leaves that must not depend on interruptions."""
    info = run_folder.read(folder)
    built = training_of(info)
    like = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    latest = Checkpoints(folder / "checkpoints")
    state = latest.restore(latest.steps()[-1], init_member(like))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    return leaves, (folder / "metrics.jsonl").read_text(), (folder / "front.json").read_text()
