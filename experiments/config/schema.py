"""Configurations: frozen dataclasses, a Python file that makes one, and `--set a.b=value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from sanas_jax.data.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    """The super-network and its controller.

    Fields:
      family: a key of `spaces.kws.FAMILIES` or `networks.SPEECH`, "dense-resnet", "fabric",
        "resnet", "resnet-fabric", "separable" or "separable-gated", the latter with the front end
        under its gates: `data.features` are then "samples".
      shortcuts: SANAS's extra edges.
      maps: channels per convolution, per group of a ResNet, of a fabric, or per block of the
        separable network's wide chain, in place of the family's.
      depth: layers of a fabric, blocks per group of a ResNet, in place of the family's.
      per_pixel: a fabric classifies every pixel, for a segmentation.
      edges: the only edges of the family that there are: a network that `extract` found.
      static: no controller, all gates on: the baseline.
      cell: "gru", "rnn", or "constant": one Γ for all steps, as in BSN.
      state_size: Z, width of the controller's state.
      conditioned: the controller is told the price λ, drawn for each stream of a batch from
        `train.cost_weight_range`, so that one network serves every budget.
      gate_bias: initial logit of every gate.
      max_hz: where the mel bands end of a network that makes them itself ("separable-gated"), as
        in the data's cache; of no other.
      hop: frames between two decisions (20 = 200 ms).
    """

    family: str = "cnn-trad-fpool3"
    shortcuts: bool = True
    maps: tuple[int, ...] | None = None
    depth: int | None = None
    per_pixel: bool = False
    edges: tuple[str, ...] | None = None
    static: bool = False
    cell: str = "gru"
    state_size: int = 100
    conditioned: bool = False
    gate_bias: float = 3.0
    max_hz: float = 4000.0
    hop: int = 20


@dataclass(frozen=True)
class DataConfig(Recipe):
    """Where the data are, and how streams are mixed from clips (SANAS, section 4) or images varied.

    Fields:
      cache: folder written by `data_prep.prepare` or `data_prep.prepare_images`; "digits" for the
        images that come with scikit-learn.
      pad, flip: of images, zeros around them before a random crop, and mirroring at random.
      features: "mfcc", "log-mel", or "samples" for a network that makes log-mel bands itself.
      padding: of the signal's ends in the features, "constant" or "reflect".
      normalize: standardise each coefficient with statistics of training batches.
      The rest, of streams, as in `recipe.Recipe`.
    """

    cache: str = "cache"
    pad: int = 0
    flip: bool = False
    features: str = "mfcc"
    padding: str = "constant"
    normalize: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation.

    Fields:
      steps, batch_size, seed: as they say.
      init_from: workdir or `pretrained:NAME` whose parameters start this run; a static one gives
        the network only, another one the controller too. Of a run on other classes, what leads into
        the output begins anew.
      learning_rate: peak, after `warmup_steps` of linear warm-up; then cosine to 0 if `cosine`.
      relative: the network's steps are shares of each tensor's RMS; `learning_rate` is that share.
      controller_learning_rate: of cell and gate head; None for the same.
      controller_delay_steps: the controller is left as it began for these steps, while the network
        learns to work in the architectures that Γ_0 draws.
      weight_decay: L2 on the network's weights, not on the controller's; with `decoupled` that of
        AdamW.
      max_grad_norm: per group; None for no clipping.
      remat: less memory for more time: a step is computed again for its gradient (`unroll`).
      precision: "default", "float32", "tf32" or "bfloat16", as in `training.Objective`.
      class_weighted: weigh classes by total / (count · K), to the power `class_weight_power`.
      label_smoothing, full_weight, distill_weight, average_decay: as in `training.Objective`.
      teacher: workdirs or `pretrained:NAME` of networks on the same words, whose posteriors, the
        mean of them, are part of the labels of audio.
      teacher_weight: how much of the loss that is (`training.Teach`).
      cost: what is charged: "macs", "incremental" (MACs of a runtime that keeps the rows of
        convolutions it has computed; needs `discount` > 0), "params", "memory" (peak bytes of
        activations), "time" (µs on this device, measured per edge), "parallel" (steps on `workers`
        workers), or a JSON file, edge → cost. A config file may bring one of its own instead.
      workers: n of "parallel".
      report_costs: others of these that are measured beside it.
      budget: cost to be reached by dual ascent on λ, from `cost_weight` on, in the unit of `cost`;
        below 1 a share of the whole network's. None keeps λ.
      invalid_penalty: nats that an architecture pays in which nothing reaches the output.
      budget_rate: η, what a cost of twice the budget adds to λ at each step.
      budget_damping: κ, what it adds to λ as long as it lasts.
      budget_ramp_steps: the budget is approached over these steps, geometrically from the whole
        network's cost, so that λ need not shoot up while the gates still learn to answer to it.
      cost_weight: λ, price in nats of running the whole network for one step (or on one image).
      cost_weight_range: lowest and highest λ that a conditioned controller learns.
      cost_weight_changes: share of its streams whose λ is drawn anew at one of their steps, so that
        it learns to be told another price while it listens.
      cost_limit: share of the whole network's cost that is free (BSN's budget); 0 charges all.
      cost_ramp_steps: λ grows linearly from 0 over these steps.
      penalty: "max" or "abs", of cost against the limit.
      discount: γ of the returns to go. 0 credits a gate with its own step alone, and leaves out
        what a value that is kept for later (an edge that reuses) does to later steps.
      samples: architectures drawn per stream and step.
      estimator: of the score function's gradient: "leave_one_out", "batch_mean", "disarm" (for
        `discount` 0), "moving_average" or "learned_value" (with `estimator_decay`), "none".
      entropy_weight: bonus per nat of entropy of Γ.
      log_every: steps between lines of training metrics.
      eval_every: steps between validations; each is followed by a checkpoint.
      eval_batches: batches per validation.
      front_size: checkpoints kept of the validation cost/accuracy front.
    """

    steps: int = 1000
    batch_size: int = 64
    seed: int = 0
    init_from: str | None = None
    learning_rate: float = 2e-2
    relative: bool = True
    warmup_steps: int = 50
    cosine: bool = True
    controller_learning_rate: float | None = 1e-3
    controller_delay_steps: int = 0
    weight_decay: float = 1e-5
    decoupled: bool = False
    max_grad_norm: float | None = 5.0
    remat: bool = False
    precision: str = "default"
    class_weighted: bool = True
    class_weight_power: float = 1.0
    label_smoothing: float = 0.0
    full_weight: float = 0.0
    distill_weight: float = 0.0
    teacher: tuple[str, ...] = ()
    teacher_weight: float = 0.5
    average_decay: float = 0.0
    cost: str = "macs"
    workers: int = 1
    report_costs: tuple[str, ...] = ()
    invalid_penalty: float = 0.0
    budget: float | None = None
    budget_rate: float = 0.02
    budget_damping: float = 1.0
    budget_ramp_steps: int = 0
    cost_weight: float = 0.1
    cost_weight_range: tuple[float, ...] = (0.1, 5.0)
    cost_weight_changes: float = 0.0
    cost_limit: float = 0.0
    cost_ramp_steps: int = 0
    penalty: str = "max"
    discount: float = 1.0
    samples: int = 8
    estimator: str = "leave_one_out"
    estimator_decay: float = 0.9
    entropy_weight: float = 0.0
    log_every: int = 10
    eval_every: int = 100
    eval_batches: int = 8
    front_size: int = 6


@dataclass(frozen=True)
class Config:
    """A whole run. `description` says what it reproduces and what it costs."""

    description: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class Hooks(NamedTuple):
    """What a config file may define beside `get_config`.

    Fields:
      build_net: (ModelConfig, num_classes) → Net, a network of one's own.
      build_cost: Net → cost, what the objective charges in place of relative MACs.
    """

    build_net: Callable[[ModelConfig, int], Any] | None = None
    build_cost: Callable[[Any], Any] | None = None


def choose(field: str, word: str, choices: Mapping[str, T]) -> T:
    """The choice that a config's word names."""
    if word not in choices:
        raise ValueError(f"config field {field!r}: expected one of {sorted(choices)}, got {word!r}")
    return choices[word]


def features_of(config: DataConfig) -> dict[str, bool]:
    """What `Frontend` is told of the features that a config names."""
    kinds = {
        "mfcc": {"cepstral": True, "raw": False},
        "log-mel": {"cepstral": False, "raw": False},
        "samples": {"cepstral": False, "raw": True},
    }
    return choose("data.features", config.features, kinds)
