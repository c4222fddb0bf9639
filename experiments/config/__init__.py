"""What a user asks for: a config, read without jax, and the library's objects made of it."""

from experiments.config.reading import (
    difference,
    flatten,
    from_json,
    load_config,
    override,
    to_json,
)
from experiments.config.schema import (
    Config,
    DataConfig,
    Hooks,
    ModelConfig,
    TrainConfig,
    choose,
    features_of,
)

__all__ = [
    "Config",
    "DataConfig",
    "Hooks",
    "ModelConfig",
    "TrainConfig",
    "choose",
    "difference",
    "features_of",
    "flatten",
    "from_json",
    "load_config",
    "override",
    "to_json",
]
