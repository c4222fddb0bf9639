"""Training: one optimiser step, and what it minimises."""

from sanas_jax.training.objective import PRECISIONS, Objective, Price, Score, Teach
from sanas_jax.training.state import Batch, Budget, Params, TrainState, init_state, trained
from sanas_jax.training.update import (
    Evaluate,
    Update,
    make_evaluate,
    make_static_evaluate,
    make_static_update,
    make_update,
)

__all__ = [
    "PRECISIONS",
    "Batch",
    "Budget",
    "Evaluate",
    "Objective",
    "Params",
    "Price",
    "Score",
    "Teach",
    "TrainState",
    "Update",
    "init_state",
    "make_evaluate",
    "make_static_evaluate",
    "make_static_update",
    "make_update",
    "trained",
]
