"""The public names, for type checkers; `__init__.py` reads them when they are asked for."""

from sanas_jax import blocks, costs, estimators, gates, spaces, training
from sanas_jax.controller import Controller
from sanas_jax.data.features import Frontend
from sanas_jax.estimators import score_function_grad
from sanas_jax.forward import forward, init, init_stats, stochastic_forward
from sanas_jax.gates import Gamma, init_gamma, log_prob, sample_gates
from sanas_jax.graph import Edge, Layer, Net, check_block, prune
from sanas_jax.rollout import Sanas, init_carry, init_model, step, unroll
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.runtime import Runtime
from sanas_jax.streaming.session import Session
from sanas_jax.training import (
    Batch,
    Budget,
    Objective,
    Price,
    Score,
    Teach,
    init_state,
    make_evaluate,
    make_static_evaluate,
    make_static_update,
    make_update,
)
from sanas_jax.training.optimizer import make_optimizer

__all__ = [
    "Batch",
    "Budget",
    "Controller",
    "Detector",
    "Edge",
    "Frontend",
    "Gamma",
    "Layer",
    "Net",
    "Objective",
    "Price",
    "Runtime",
    "Sanas",
    "Score",
    "Session",
    "Teach",
    "blocks",
    "check_block",
    "costs",
    "estimators",
    "forward",
    "gates",
    "init",
    "init_carry",
    "init_gamma",
    "init_model",
    "init_state",
    "init_stats",
    "log_prob",
    "make_evaluate",
    "make_optimizer",
    "make_static_evaluate",
    "make_static_update",
    "make_update",
    "prune",
    "sample_gates",
    "score_function_grad",
    "spaces",
    "step",
    "stochastic_forward",
    "training",
    "unroll",
]
