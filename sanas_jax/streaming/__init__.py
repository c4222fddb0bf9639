"""A trained network on a stream, step by step."""

from sanas_jax.streaming.step import (
    Decision,
    Memory,
    NewRows,
    Plan,
    Values,
    carry_of,
    dead_answers,
    fill,
    init_memory,
    most_turns,
    plan,
    stream_step,
    tell,
)

__all__ = [
    "Decision",
    "Memory",
    "NewRows",
    "Plan",
    "Values",
    "carry_of",
    "dead_answers",
    "fill",
    "init_memory",
    "most_turns",
    "plan",
    "stream_step",
    "tell",
]
