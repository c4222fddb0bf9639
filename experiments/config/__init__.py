"""What a user asks for: a config, read without jax."""

from experiments.config.schema import (
    Config,
    DataConfig,
    Hooks,
    ModelConfig,
    T,
    TrainConfig,
    choose,
    difference,
    flatten,
    from_json,
    load_config,
    override,
    to_json,
)

__all__ = [
    "Config",
    "DataConfig",
    "Hooks",
    "ModelConfig",
    "T",
    "TrainConfig",
    "choose",
    "difference",
    "flatten",
    "from_json",
    "load_config",
    "override",
    "to_json",
]
