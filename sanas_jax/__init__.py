"""Budgeted stochastic super-networks (BSN) and SANAS in JAX.

Pure functions over a static graph: a distribution Γ over the edges of a super-network is sampled,
the sampled architecture H is run, and a score-function gradient trades accuracy against cost.

The names of a first hour are here, each from the module that it lives in. They are read when they
are first asked for: `sanas_jax.data.recipe` is imported where jax is not.
"""

from importlib import import_module

# Name → the module it is from. The stub beside this file says the same to type checkers.
_HOMES = {
    name: module
    for module, names in {
        "graph": ("Edge", "Layer", "Net", "check_block", "prune"),
        "gates": ("Gamma", "init_gamma", "log_prob", "sample_gates"),
        "forward": ("forward", "init", "init_stats", "stochastic_forward"),
        "estimators": ("score_function_grad",),
        "controller": ("Controller",),
        "rollout": ("Sanas", "init_carry", "init_model", "step", "unroll"),
        "training": (
            *("Batch", "Budget", "Objective", "Price", "Score", "Teach"),
            *("init_state", "make_evaluate", "make_update"),
            *("make_static_evaluate", "make_static_update"),
        ),
        "training.optimizer": ("make_optimizer",),
        "data.features": ("Frontend",),
        "streaming.detector": ("Detector",),
        "streaming.runtime": ("Runtime",),
        "streaming.session": ("Session",),
    }.items()
    for name in names
}
_MODULES = ("blocks", "costs", "estimators", "gates", "spaces", "training")

__all__ = sorted((*_HOMES, *_MODULES))


def __getattr__(name: str) -> object:
    """A public name, read from where it lives (PEP 562)."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    # `forward` is also the name of its module, which the import has put here.
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    """The public names beside what the module holds already."""
    return sorted({*globals(), *__all__})
