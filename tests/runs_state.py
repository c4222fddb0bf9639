"""What a run left in its folder, for comparing two."""

import jax
import numpy as np

from experiments import workdir
from experiments.build import rebuild
from experiments.checkpoints import Checkpoints
from sanas_jax.budgets import init_member
from sanas_jax.training import init_state


def final_state(folder):
    """Everything a run leaves that must not depend on interruptions."""
    info = workdir.read(folder)
    built = rebuild(info)
    like = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    latest = Checkpoints(folder / "checkpoints")
    state = latest.restore(latest.steps()[-1], init_member(like))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    return leaves, (folder / "metrics.jsonl").read_text(), (folder / "front.json").read_text()
