"""How large the paper's experiment is done again: network, steps, seeds, hours of streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Of six networks, and of one that is told them: from nearly everything on to the cheapest path.
PRICES = (0.1, 0.3, 0.6, 1.0, 1.8, 3.0)


@dataclass(frozen=True)
class Scale:
    """A size of the experiment.

    Fields:
      config: name of the config file.
      seeds: of training, unless more or fewer are asked for.
      static_steps: of networks with everything on, from random weights.
      adaptive_steps: from a network with everything on.
      settings: overrides of the config for all networks.
      adaptive: overrides beside, for those that start from trained weights.
      test_minutes: length of each of the three testing streams.
      validation_minutes: likewise of the streams that detectors are chosen on.
    """

    config: str
    seeds: int
    static_steps: int
    adaptive_steps: int
    settings: tuple[str, ...]
    adaptive: tuple[str, ...]
    test_minutes: float
    validation_minutes: tuple[float, ...]


_ADAPTIVE = ("train.learning_rate=1e-2",)

SCALES: Mapping[str, Scale] = {
    # The paper's network and hours; steps for an accelerator.
    "full": Scale(
        "kws_paper", 3, 10_000, 3_000, ("train.eval_every=500",), _ADAPTIVE, 60, (60, 60)
    ),
    # The same network for as many steps as `small`.
    "short": Scale("kws_paper", 1, 1_500, 600, ("train.eval_every=300",), _ADAPTIVE, 20, (20, 20)),
    # 16 maps in place of 64, and steps that two CPU cores can make.
    "small": Scale("kws_small", 1, 1_500, 600, ("train.eval_every=100",), _ADAPTIVE, 20, (20, 20)),
    # Whether it runs: what is trained in so few steps knows nothing.
    "toy": Scale(
        "kws_debug",
        1,
        8,
        10,
        ("train.eval_every=2", "train.log_every=2", "model.gate_bias=0.7"),
        _ADAPTIVE,
        0.5,
        (0.5,),
    ),
}
