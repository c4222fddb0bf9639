"""Training: one optimiser step, and what it minimises."""

from sanas_jax.training.objective import PRECISIONS, Objective, Price, Score, Teach
from sanas_jax.training.state import Batch, Budget, Params, TrainState, init_state, trained
from sanas_jax.training.update import Update, make_evaluate, make_update

__all__ = [
    "PRECISIONS",
    "Batch",
    "Budget",
    "Objective",
    "Params",
    "Price",
    "Score",
    "Teach",
    "TrainState",
    "Update",
    "init_state",
    "make_evaluate",
    "make_update",
    "trained",
]
