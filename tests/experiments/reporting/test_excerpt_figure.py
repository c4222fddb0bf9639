"""The excerpt of a stream: what is drawn where, and which excerpt is chosen."""

from typing import Any

import numpy as np

from experiments.reporting.run_record import Detected, StreamView
from experiments.reporting.streams.excerpt_figure import liveliest, stream_figure


def make_view(**changes: Any) -> StreamView:
    """40 steps of 0.2 s; two words, three detections; cost rises by one million at 4 s."""
    times = 0.5 + 0.2 * np.arange(40)
    posteriors = np.zeros((40, 3))
    posteriors[:, 0] = 1.0
    posteriors[10:15] = [0.25, 0.75, 0.0]
    return StreamView(
        classes=["silence", "yes", "no"],
        times_s=times,
        posteriors=posteriors,
        macs=np.where(times < 4, 1e6, 2e6),
        full_macs=3e6,
        envelope=np.full(900, 0.5),
        truth=[("yes", 2.4), ("no", 6.0)],
        detections=[
            Detected("no", 0.7, "alarm"),
            Detected("yes", 2.9, "right"),
            Detected("yes", 6.5, "wrong"),
        ],
    )._replace(**changes)


def test_stream_figure_draws_cost_detections_and_truth() -> None:
    signal, posteriors, cost = stream_figure(make_view(), 2.0, 8.0).axes
    assert signal.get_xlim() == posteriors.get_xlim() == cost.get_xlim() == (2.0, 8.0)
    (line,) = [line for line in cost.lines if line.get_label() == "cost"]
    x, y = map(np.asarray, line.get_data())
    np.testing.assert_allclose(y, np.where(x < 4, 1.0, 2.0))
    assert x.min() >= 2.0
    assert x.max() <= 8.0
    drawn = {line.get_label(): line for line in posteriors.lines}
    found = {
        "right word": ("o", [[2.9, 1.0]]),
        "wrong or repeated": ("X", [[6.5, 1.0]]),
        "false alarm": ("^", [[0.7, 2.0]]),
    }
    for name, (marker, places) in found.items():
        assert drawn[name].get_marker() == marker
        assert drawn[name].get_xydata().tolist() == places
    boxes = [(p.get_x(), round(p.get_y() + 0.45, 6)) for p in posteriors.patches]
    assert boxes == [(2.4, 1), (6.0, 2)]
    assert [text.get_text() for text in signal.texts] == ["yes", "no"]


def test_stream_figure_draws_posteriors_as_dense_as_they_are() -> None:
    _, posteriors, _ = stream_figure(make_view(), 2.0, 3.4).axes
    opacities = [
        {round(float(color[3]), 2) for color in cells.get_facecolor()}
        for cells in posteriors.collections
    ]
    assert opacities == [{0.25, 1.0}, {0.75}, set()]


def test_stream_figure_writes_crowded_words_upright() -> None:
    near = make_view(truth=[("yes", 2.4), ("no", 3.4)])
    for end, rotation in ((8.0, 0), (100.0, 90)):
        signal, *_ = stream_figure(near, 0.0, end).axes
        assert {text.get_rotation() for text in signal.texts} == {rotation}


def test_liveliest_excerpt_is_where_mistakes_are() -> None:
    rights = [Detected("yes", time, "right") for time in (10.0, 12.0, 14.0)]
    mistakes = [Detected("yes", 127.0, "wrong"), Detected("yes", 131.0, "alarm")]
    view = make_view(envelope=np.zeros(20_000), detections=[*rights, *mistakes])
    start = liveliest([view, view], 30)
    assert start <= 127
    assert start + 30 >= 131
    assert liveliest([view], 500) == 0
