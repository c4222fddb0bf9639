"""Steps as the train loop makes them, batches drawn from a cache: as something to time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.config import Config
from experiments.config.build import Training, target_of
from experiments.datasets.speech import AudioSource
from experiments.machine.prefetch import ahead
from experiments.training.steps import batch_key, make_draw, make_train_steps
from sanas_jax.data.mix_settings import MixSettings
from sanas_jax.training import init_state
from sanas_jax.training.budgets import init_member


def first_batch(config: Config, built: Training, source: AudioSource, frontend: Any) -> Any:
    """The batch of step 0."""
    draw = make_draw(config, built, source.draw)
    numbers, sent = next(_upcoming(config, built, source, 1))
    return draw(source.training, sent, frontend, jax.random.key(1), numbers)


def make_dispatches(
    config: Config, built: Training, source: AudioSource, frontend: Any, steps: int = 1
) -> Callable[[int], Any]:
    """`run(count) -> members`: so many programs of `steps` steps, called and not waited for.

    The state is carried along, the result what the last of them is computing.
    """
    draw = make_draw(config, built, source.draw)
    train_steps = make_train_steps(config, built, None)
    state = init_state(built.model, built.optimizer, built.objective, jax.random.key(0))
    target = target_of(config, built)
    members, targets, keys = jax.tree.map(
        lambda leaf: leaf[None], (init_member(state), target, jax.random.key(1))
    )
    feed: Iterator[tuple[np.ndarray, Any]] = _upcoming(config, built, source, steps)
    if source.streams:  # as in the train loop: clips are read while the device computes
        feed = ahead(feed)

    def run(count: int) -> Any:
        nonlocal members
        for numbers, sent in itertools.islice(feed, count):
            batches = draw(source.training, sent, frontend, jax.random.key(1), numbers)
            members, _ = train_steps(members, batches, keys, targets, numbers)
        return members

    return run


def _upcoming(
    config: Config, built: Training, source: AudioSource, at_once: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Numbers of the steps of each program, and what is sent for them."""
    keys = jax.jit(jax.vmap(batch_key, (None, 0)))
    recipe = built.settings
    assert isinstance(recipe, MixSettings)  # a config of audio
    for start in itertools.count(0, at_once):
        numbers = np.arange(start, start + at_once, dtype=np.int32)
        own = keys(jax.random.key(1), numbers)
        yield numbers, source.feed(recipe, own, config.train.batch_size)
