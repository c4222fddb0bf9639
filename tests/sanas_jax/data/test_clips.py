"""Arrays of a split: what is refused."""

import numpy as np
import pytest

from sanas_jax.data.clips import Clips


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": np.zeros((2, 5), np.float32)}, "samples: expected int16"),
        ({"samples": np.zeros(5, np.int16)}, "samples: expected int16"),
        ({"samples": np.zeros((0, 5), np.int16)}, "samples: expected int16"),
        ({"lengths": [1, 2, 3]}, r"lengths: expected integers \[2\]"),
        ({"lengths": [1, 6]}, "lengths: expected 0 to 5, got 1 to 6"),
        ({"labels": [1.0, 2.0]}, "labels: expected integers"),
        ({"labels": [0, 2]}, "labels: expected 1"),
        ({"labels": [1, 1]}, "at least one wanted word"),
        ({"noise": np.zeros(4)}, "noise: expected int16"),
        ({"noise_bounds": [0, 3]}, "noise_bounds: expected integers that rise from 0 to 4"),
        ({"noise_bounds": [0, 2, 2, 4]}, "noise_bounds: expected integers that rise"),
    ],
)
def test_create_bad_arrays_raise(change, message):
    good = {
        "samples": np.zeros((2, 5), np.int16),
        "lengths": [5, 4],
        "labels": [1, 2],
        "noise": np.zeros(4, np.int16),
        "noise_bounds": [0, 4],
    }
    Clips.create(**good)
    with pytest.raises(ValueError, match=message):
        Clips.create(**{**good, **change})
