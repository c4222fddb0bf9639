import threading
import time

import pytest

from experiments.machine.prefetch import ahead


def test_items_come_in_order_and_the_thread_ends():
    before = threading.active_count()
    assert list(ahead(range(50), depth=3)) == list(range(50))
    assert threading.active_count() == before


def test_some_are_made_before_they_are_asked_for_but_no_more():
    made = []

    def items():
        for i in range(20):
            made.append(i)
            yield i

    taken = ahead(items(), depth=2)
    assert next(taken) == 0
    deadline = time.time() + 10
    # Two wait in the queue, one in the hand.
    while len(made) < 4 and time.time() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert made == [0, 1, 2, 3]
    taken.close()
    time.sleep(0.3)
    assert made == [0, 1, 2, 3]


def test_an_error_is_raised_where_its_item_is_asked_for():
    def items():
        yield 1
        raise OSError("the disk is gone")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(taken)


def test_nothing_runs_for_an_iterator_that_is_never_asked():
    before = threading.active_count()
    ahead(range(3)).close()
    assert threading.active_count() == before
