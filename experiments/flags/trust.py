"""The flag that lets a run's own code run."""

from __future__ import annotations

from absl import flags


def define_trust_flag(values: flags.FlagValues) -> None:
    """Of commands that read models, which are data unless it is given."""
    flags.DEFINE_bool(
        "trust",
        False,
        "Run the config.py of a run whose network or cost is code of its own: only where you trust "
        "who wrote it.",
        flag_values=values,
    )
