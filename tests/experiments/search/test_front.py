"""Fronts and hypervolumes worked out by hand."""

import pytest

from experiments.search.front import front, hypervolume

POINTS = [(0.5, 0.6), (0.2, 0.4), (0.5, 0.9), (0.3, 0.3), (0.8, 0.9), (0.2, 0.4)]


def test_front_keeps_what_nothing_beats():
    assert front(POINTS) == [(0.2, 0.4), (0.5, 0.9)]


def test_hypervolume_by_hand():
    # 0.3 wide and 0.4 high, then 0.5 wide and 0.9 high.
    assert hypervolume(POINTS) == pytest.approx(0.3 * 0.4 + 0.5 * 0.9)
    assert hypervolume(POINTS[::-1]) == hypervolume(POINTS)


def test_hypervolume_from_other_corners():
    assert hypervolume([(2, 0.5)], most=4, least=0.1) == pytest.approx(2 * 0.4)
    assert hypervolume([(0.2, 0.4), (1.5, 1.0)]) == pytest.approx(0.8 * 0.4)
    assert hypervolume([(0.2, 0.4)], least=0.5) == 0
    assert hypervolume([]) == 0


def test_hypervolume_of_a_point_that_is_beaten_is_not_counted():
    assert hypervolume([(0.2, 0.4), (0.3, 0.3)]) == hypervolume([(0.2, 0.4)])
