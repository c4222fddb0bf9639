"""A cache's negatives on the device, as far as a recipe draws from them."""

from __future__ import annotations

from functools import partial

import numpy as np
from jax.sharding import Mesh

from data_prep.speech.cache import Cache
from data_prep.speech.negative_cache import StoredNegatives, open_negatives
from data_prep.speech.negatives import BLOCK
from experiments.datasets.strung import Strung, string_together
from sanas_jax.data.negatives import Negatives
from sanas_jax.data.recipe import Recipe
from sanas_jax.data.tracks import Tracks
from sanas_jax.sharding import place


def open_tracks(cache: Cache, split: str, recipe: Recipe, mesh: Mesh | None) -> Negatives | None:
    """The negatives of one split, but those in which a word was heard; None if none are drawn.

    Raises ValueError where the recipe draws from what the cache does not have.
    """
    if not recipe.has_negatives:
        return None
    stored = open_negatives(cache.path)
    strung = None
    if recipe.negative_speech and recipe.negative_strung:
        strung = string_together(cache, split, recipe.negative_strung)
    found = {}
    for name, share in (("speech", recipe.negative_speech), ("sounds", recipe.negative_sounds)):
        if not share:
            continue
        rows = np.zeros(0, int) if stored is None else stored.rows(split)
        if stored is not None:
            talks = stored.is_speech()[rows] == (name == "speech")
            rows = rows[talks & ~stored.heard[rows]]
        more = strung if name == "speech" else None
        if not len(rows) and more is None:
            raise ValueError(
                f"data.negative_{name}: expected {name} among the {split} negatives of the cache "
                f"{cache.path} (prepare --negatives), got none"
            )
        found[name] = _tracks(stored, rows, more, mesh)
    return Negatives(found.get("speech"), found.get("sounds"))


def _tracks(
    stored: StoredNegatives | None, rows: np.ndarray, strung: Strung | None, mesh: Mesh | None
) -> Tracks:
    """Some files, one after another, and what is strung together of clips."""
    samples, lengths, active = [], [], []
    if stored is not None:
        ends = stored.bounds // BLOCK
        samples += [stored.file(row) for row in rows]
        active += [stored.active[ends[row] : ends[row + 1]] for row in rows]
        lengths += (stored.bounds[rows + 1] - stored.bounds[rows]).tolist()
    if strung is not None:
        samples.append(strung.samples)
        active.append(np.ones(len(strung.samples) // BLOCK, bool))
        lengths += np.diff(strung.bounds).tolist()
    return Tracks.create(
        np.concatenate(samples),
        np.cumsum([0, *lengths]),
        np.concatenate(active),
        put=partial(place, mesh=mesh),
    )
