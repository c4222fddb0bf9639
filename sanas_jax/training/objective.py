"""The static part of what is minimised."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax.numpy as jnp

from sanas_jax.costs import Cost
from sanas_jax.estimators import Estimator, batch_mean
from sanas_jax.forward import DType
from sanas_jax.training.terms import Penalty, max_penalty

# Names of `Objective.precision`, and jax's for what the device may make of float32 operands.
PRECISIONS = {"default": None, "float32": "float32", "tf32": "tensorfloat32", "bfloat16": None}


@dataclass(frozen=True)
class Objective:
    """Static part of what is minimised.

    The score function credits a row's gates with that row's loss. Where blocks normalise with the
    batch, rows also act on each other; that part is left out.

    Fields:
      cost: gates [..., E] → [...]; in units of the budget.
      reported: further costs by name, measured beside it, never charged.
      invalid: gates → 1 where nothing live reaches the output, and `invalid_penalty`, in nats, what
        such an architecture pays (BSN's penalty for inconsistent architectures).
      static: train the plain super-network, all gates on, without controller or score function.
      discount: γ of the returns to go; 1 is the objective's own gradient.
      penalty: of cost against the budget's limit.
      samples: M architectures per stream and step. They share the trunk: only the scan is repeated.
      estimator: of the score-function term; `leave_one_out` needs M ≥ 2, `disarm` γ = 0.
      entropy_weight: bonus per nat of the architecture's entropy.
      label_smoothing: share of a label's probability that is spread over all classes, in training.
      full_weight, distill_weight: beside each sampled architecture the whole network is trained, on
        the labels with `full_weight`, and teaches the sampled ones with `distill_weight`: its
        posteriors are their soft labels (the sandwich rule's in-place distillation, Yu & Huang,
        ICCV 2019). Neither enters the reward, so gates answer to labels and cost alone.
      precision: of the network's arithmetic in training, a key of `PRECISIONS`. "default" is what
        the device does by itself (TF32 on recent NVIDIA, bfloat16 passes on a TPU); "float32" and
        "tf32" ask for it; "bfloat16" computes convolutions and the trunk in it, with weights,
        sums, losses and statistics in float32.
      average_decay: of the moving average of the parameters (Polyak); 0 for none.
      measure_mode: also report `mode_cost`, that of the most probable architectures: what is
        deployed. One scan more, without a gradient.
    """

    cost: Cost
    static: bool = False
    discount: float = 1.0
    penalty: Penalty = max_penalty
    samples: int = 1
    estimator: Estimator = field(default_factory=batch_mean)
    entropy_weight: float = 0.0
    measure_mode: bool = False
    reported: tuple[tuple[str, Cost], ...] = ()
    invalid: Cost | None = None
    invalid_penalty: float = 0.0
    label_smoothing: float = 0.0
    full_weight: float = 0.0
    distill_weight: float = 0.0
    average_decay: float = 0.0
    precision: str = "default"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: expected one of {sorted(PRECISIONS)}, got {self.precision!r}"
            )
        for name in ("label_smoothing", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 0 to less than 1, got {getattr(self, name)}")
        for name in ("full_weight", "distill_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.estimator.paired and self.discount != 0:
            raise ValueError(
                "estimator: disarm credits a gate with its own step only; expected discount 0, got "
                f"{self.discount}"
            )

    @property
    def dtype(self) -> DType:
        """What the network's blocks compute in; None: as their weights."""
        return jnp.bfloat16 if self.precision == "bfloat16" else None
