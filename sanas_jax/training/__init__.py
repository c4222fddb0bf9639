"""Training: one optimiser step and what it minimises."""

from sanas_jax.training.update import (
    PRECISIONS,
    Batch,
    Budget,
    Objective,
    Params,
    TrainState,
    Update,
    init_state,
    make_evaluate,
    make_update,
    trained,
)

__all__ = [
    "PRECISIONS",
    "Batch",
    "Budget",
    "Objective",
    "Params",
    "TrainState",
    "Update",
    "init_state",
    "make_evaluate",
    "make_update",
    "trained",
]
