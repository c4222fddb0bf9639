"""Figures: what is drawn where, read back from the artists."""

import numpy as np

from experiments.figures import training as training_figures
from tests.helpers.runs import STEPS, metrics

EDGES = {"conv": 3_000_000, "out": 1_000_000}


def test_training_curves_draw_every_run_in_its_color() -> None:
    lines = metrics(STEPS, "training", EDGES) + metrics(STEPS, "validation", EDGES)
    figure = training_figures.training_curves({"one": lines, "_two": lines[:2], "three": []})
    loss, accuracy, cost = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "nats per frame",
        "% of the frames",
        "M MACs/frame",
    ]
    np.testing.assert_allclose(loss.lines[1].get_xydata(), [[50, 1.75], [100, 1.5], [150, 1.25]])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [60, 70, 80])
    np.testing.assert_allclose(cost.lines[0].get_ydata(), [3.5, 3.0, 2.5])
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] > max(axes.lines[0].get_ydata())
        colors = [line.get_color() for line in axes.lines]
        assert colors[0] == colors[1] != colors[2] == colors[3]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["one", "_two", "three", "training", "validation"]


def test_cost_per_word_draws_classes_and_the_mean_of_the_words() -> None:
    lines = metrics(STEPS, "training", EDGES)
    del lines[0]["macs_per_frame_by_label"]["_unknown_"]  # a class absent from a batch
    (axes,) = training_figures.cost_per_word({"run": lines}, {"run": 4e6}).axes
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_allclose(drawn["silence"], [[50, 1.75], [100, 1.5], [150, 1.25]])
    np.testing.assert_allclose(drawn["unknown"], [[100, 2.4], [150, 2.0]])
    np.testing.assert_allclose(drawn["mean of the words"], [[50, 2.8], [100, 2.4], [150, 2.0]])
    assert axes.get_ylim()[1] > 4  # the whole network
    ends = {text.get_text(): text.xy for text in axes.texts}
    np.testing.assert_allclose([ends["yes"], ends["no"]], [[150, 1.75], [150, 2.25]])


def test_cost_per_word_prefers_validation_once_there_is_enough() -> None:
    lines = metrics([1], "training", EDGES) + metrics(range(5), "validation", EDGES)
    (axes,) = training_figures.cost_per_word({"run": lines}, {"run": 3e6}).axes
    assert axes.get_title("left") == "run (validation)"
    assert len(axes.lines[0].get_xdata()) == 5


def test_gate_usage_prints_percentages() -> None:
    usage = np.array([[0.5, 1.0], [0.126, 0.0]])
    (axes,) = training_figures.gate_usage(
        usage, ["all frames", "yes"], {"a": 2_000_000, "b": 10_000}
    ).axes
    assert [text.get_text() for text in axes.texts] == ["50", "100", "13", "0"]
    assert [patch.get_alpha() for patch in axes.patches] == [0.5, 1.0, 0.126, 0.0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a\n2M", "b\n10k"]


def test_thin_takes_means_of_blocks() -> None:
    steps, values = training_figures.thin(np.arange(1000.0), np.arange(1000.0) ** 0)
    assert len(steps) <= 400
    np.testing.assert_allclose(values, 1)
    np.testing.assert_allclose(steps[:2], [1, 4])
    short = np.arange(5.0)
    np.testing.assert_array_equal(training_figures.thin(short, short), [short, short])
