"""The static part of what is minimised: what is charged, how it is estimated, who teaches whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import jax.numpy as jnp

from sanas_jax.costs import Cost, StreamCost
from sanas_jax.estimators import Estimator, batch_mean
from sanas_jax.running import DType
from sanas_jax.training.terms import Penalty, max_penalty

# Names of `Objective.precision`, and jax's for what the device may make of float32 operands.
PRECISIONS = {"default": None, "float32": "float32", "tf32": "tensorfloat32", "bfloat16": None}


@dataclass(frozen=True)
class Price:
    """What an architecture pays.

    Fields:
      cost: gates [..., E] → [...], or of successive steps; in units of the budget.
      penalty: of cost against the budget's limit.
      invalid: gates → 1 where nothing live reaches the output, and `invalid_penalty`, in nats, what
        such an architecture pays (BSN's penalty for inconsistent architectures).
      reported: further costs by name, measured beside it, never charged.
    """

    cost: Cost | StreamCost
    penalty: Penalty = max_penalty
    invalid: Cost | None = None
    invalid_penalty: float = 0.0
    reported: tuple[tuple[str, Cost | StreamCost], ...] = ()

    def __post_init__(self) -> None:
        _check_range("invalid_penalty", self.invalid_penalty, inf)


@dataclass(frozen=True)
class Score:
    """How the controller's gradient is estimated.

    The score function credits a row's gates with that row's loss. Where blocks normalise with the
    batch, rows also act on each other; that part is left out.

    Fields:
      estimator: of the score-function term; `leave_one_out` needs M ≥ 2; `disarm` γ = 0,
        a net without reuse and a cost without memory (`make_loss` refuses others).
      samples: M architectures per stream and step, or per input. They share the trunk: only what
        follows it is repeated.
      discount: γ of the returns to go along streams, 0 to 1; 1 is the objective's own gradient.
      entropy_weight: bonus per nat of the architecture's entropy.
    """

    estimator: Estimator = field(default_factory=batch_mean)
    samples: int = 1
    discount: float = 1.0
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples: expected 1 or more, got {self.samples}")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount: expected 0 to 1, got {self.discount}")
        if self.estimator.paired and self.discount != 0:
            raise ValueError(
                "estimator: disarm credits a gate with its own step only; expected discount 0, got "
                f"{self.discount}"
            )


@dataclass(frozen=True)
class Teach:
    """How the network learns from labels, from another network and from itself.

    Fields:
      full_weight, distill_weight: beside each sampled architecture the whole network is trained, on
        the loss of the steps with `full_weight`, and teaches the sampled ones with
        `distill_weight`: its posteriors are their soft labels (the sandwich rule's in-place
        distillation, Yu & Huang, ICCV 2019). Neither of the two enters the reward.
      label_smoothing: share of a label's probability that is spread over all classes, in training.
      teacher_weight: share of the steps' loss that is on what another network says, where a batch
        brings it (`Batch.taught`; Hinton et al., 2015, arXiv:1503.02531, at temperature 1). It is
        part of Δ, so gates answer to it as weights do.
    """

    full_weight: float = 0.0
    distill_weight: float = 0.0
    label_smoothing: float = 0.0
    teacher_weight: float = 0.5

    def __post_init__(self) -> None:
        _check_range("full_weight", self.full_weight, inf)
        _check_range("distill_weight", self.distill_weight, inf)
        _check_range("label_smoothing", self.label_smoothing, 1)
        if not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"teacher_weight: expected 0 to 1, got {self.teacher_weight}")

    @property
    def by_whole(self) -> bool:
        """Whether the whole network is run beside the samples."""
        return bool(self.full_weight or self.distill_weight)


@dataclass(frozen=True)
class Objective:
    """Static part of what is minimised.

    Fields:
      price, score, teach: what is charged, how gates learn, how weights learn.
      static: train the plain super-network, all gates on, without controller or score function.
      precision: of the network's arithmetic in training, a key of `PRECISIONS`. "default" is what
        the device does by itself (TF32 on recent NVIDIA, bfloat16 passes on a TPU); "float32" and
        "tf32" ask for it; "bfloat16" computes convolutions and the trunk in it, with weights,
        sums, losses and statistics in float32.
      average_decay: of the moving average of the parameters (Polyak); 0 for none.
      remat: of `unroll` and `run_static`, in training.
      measure_mode: also report `mode_cost`, that of the most probable architectures: what is
        deployed. One scan more, without a gradient, on the trunk of the samples.
    """

    price: Price
    score: Score = field(default_factory=Score)
    teach: Teach = field(default_factory=Teach)
    static: bool = False
    precision: str = "default"
    average_decay: float = 0.0
    remat: bool = False
    measure_mode: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: expected one of {sorted(PRECISIONS)}, got {self.precision!r}"
            )
        _check_range("average_decay", self.average_decay, 1)

    @property
    def dtype(self) -> DType:
        """What the network's blocks compute in; None: as their weights."""
        return jnp.bfloat16 if self.precision == "bfloat16" else None


def _check_range(name: str, value: float, end: float) -> None:
    """ValueError unless 0 ≤ value < end."""
    if not 0 <= value < end:
        expected = "0 or more" if end == inf else f"0 to less than {end}"
        raise ValueError(f"{name}: expected {expected}, got {value}")
