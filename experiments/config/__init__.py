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
    is_cepstral,
)

__all__ = [
    "Config",
    "DataConfig",
    "Hooks",
    "ModelConfig",
    "TrainConfig",
    "choose",
    "difference",
    "flatten",
    "from_json",
    "is_cepstral",
    "load_config",
    "override",
    "to_json",
]
