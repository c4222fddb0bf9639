"""A queue of samples against a plain array."""

import numpy as np
import pytest

from sanas_jax.streaming.waiting import Waiting


def test_what_waits_and_what_was_latest_are_those_of_a_plain_array():
    rng = np.random.default_rng(0)
    for kept in (0, 3, 31):
        queue, everything, gone = Waiting(20, kept, 50), np.zeros(0, np.float32), 0
        for _ in range(300):
            samples = rng.standard_normal(rng.integers(0, 51)).astype(np.float32)
            queue.add(samples)
            everything = np.concatenate([everything, samples])
            np.testing.assert_array_equal(queue.first(len(queue)), everything[gone:])
            np.testing.assert_array_equal(
                queue.latest(), everything[max(len(everything) - kept, 0) :]
            )
            count = max(len(queue) - int(rng.integers(0, 21)), 0)
            queue.drop(count)
            gone += count


def test_integers_are_parts_of_one():
    queue = Waiting(4, 0, 4)
    queue.add(np.array([-32768, 0, 16384], np.int16))
    np.testing.assert_array_equal(queue.first(3), [-1, 0, 0.5])


def test_a_queue_goes_on_from_what_another_held():
    one, other = Waiting(10, 6, 10), Waiting(10, 6, 10)
    for waits in (0, 2, 6, 9):
        one.set(np.arange(9, dtype=np.float32))
        one.drop(9 - waits)
        other.set(one.first(len(one)).copy(), one.latest())
        np.testing.assert_array_equal(other.first(len(other)), np.arange(9 - waits, 9))
        np.testing.assert_array_equal(other.latest(), np.arange(3, 9))


def test_more_than_fits_is_refused():
    with pytest.raises(ValueError, match="broadcast"):
        Waiting(2, 0, 3).add(np.zeros(6, np.float32))
