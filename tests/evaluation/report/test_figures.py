"""Figures: what can be asserted of them; that they are good to look at was judged by looking.

Run: python -m pytest tests/evaluation/report/test_figures.py
"""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.evaluation.metrics.classification import calibration
from pipeline_lib.evaluation.predictions import Predictions
from pipeline_lib.evaluation.report.figures import confusion, learning_curves, reliability, save_figure, scatter

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("drawn")]


def draw(figure) -> bytes:
    """The figure as PNG."""
    file = io.BytesIO()
    save_figure(figure, file)
    return file.getvalue()


def history(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["step", "epoch", "split", "metric", "value"])


HIGHER = {"loss": False, "macro_f1": True, "perplexity": False}
RECORDED = history(
    (10, 0.5, "train", "loss", 2.0),
    (20, 1.0, "train", "loss", 1.0),
    (20, 1.0, "validation", "macro_f1", 0.4),
    (40, 2.0, "validation", "macro_f1", 0.7),
    (60, 3.0, "validation", "macro_f1", 0.6),
    (20, 1.0, "validation", "loss", 1.5),
    (40, 2.0, "validation", "loss", 1.2),
    (60, 3.0, "validation", "loss", 1.9),
    (40, 2.0, "train", "learning_rate", 1e-5),
    (40, 2.0, "validation", "rouge", np.nan),
)


def test_confusion_writes_counts_and_labels():
    figure = confusion(np.array([[8, 2], [0, 1234]]), ["yes", "costs $5 or $6"])
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["8", "2", "1,234"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted label", "gold label")
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["yes", "costs $5 or $6"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0, 1]])
    assert "1,242 of 1,244" in axes.get_title()
    draw(figure)


def test_confusion_grows_and_leaves_out_counts():
    small, large = (confusion(np.eye(size, dtype=int), [f"label {i}" for i in range(size)]) for size in (20, 77))
    assert len(small.axes[0].texts) == 20 and not large.axes[0].texts
    assert large.get_figwidth() > small.get_figwidth() > 10
    assert len(large.axes[0].get_yticklabels()) == 77
    assert large.axes[0].get_yticklabels()[0].get_fontsize() * 77 / 72 < large.get_figheight()  # names do not overlap
    draw(large)


def test_confusion_of_very_many_classes_stays_drawable():
    figure = confusion(np.eye(1000, dtype=int), ["a very long label that goes on and on and on"] * 1000)
    assert max(figure.get_size_inches()) < 45
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert len(names) <= 240 and len(names[0]) == 32 and names[0].endswith("…")


def test_confusion_with_a_class_without_rows():
    np.testing.assert_array_equal(confusion(np.diag([3, 0]), ["a", "b"]).axes[0].images[0].get_array()[1], [0, 0])


def test_reliability_shows_the_bins():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), 300)
    outcome = Predictions(random.integers(0, 4, 300), probabilities.argmax(axis=1), probabilities)
    figure = reliability(outcome)
    upper, lower = figure.axes
    bins = calibration(outcome)
    np.testing.assert_allclose([bar.get_height() for bar in upper.patches], bins.accuracy)
    np.testing.assert_allclose([bar.get_height() for bar in lower.patches], bins.decisions / 300)
    assert "confidence" in lower.get_xlabel() and lower.get_ylabel() == "share of rows"
    assert f"accuracy {np.mean(outcome.gold == outcome.guess):.1%}" in upper.get_title()
    draw(figure)


def test_reliability_of_several_labels():
    probabilities = np.random.default_rng(0).random((50, 3))
    figure = reliability(Predictions(probabilities > 0.4, probabilities > 0.5, probabilities))
    assert figure.axes[1].get_ylabel() == "share of decisions"
    draw(figure)


def test_learning_curves_have_a_panel_for_each_metric():
    figure = learning_curves(RECORDED, HIGHER)
    loss, macro_f1, rate = figure.axes  # the metric that was never a number has no panel
    assert [line.get_label() for line in loss.lines[:2]] == ["train", "validation"]
    assert loss.get_title() == "loss: best 1.2 on validation\n(step 40, epoch 2)"
    assert macro_f1.get_title() == "macro_f1: best 0.7 on validation\n(step 40, epoch 2)"
    assert rate.get_title() == "learning_rate" and all(axes.get_xlabel() == "step" for axes in figure.axes)
    assert loss.lines[1].get_ydata().tolist() == [1.5, 1.2, 1.9]
    draw(figure)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_learning_curves_leave_no_empty_panel(count):
    rows = [(1, 1, "validation", name, 0.5) for name in ["loss", *"abcdef"][:count]]
    figure = learning_curves(history(*rows), HIGHER)
    assert len(figure.axes) == count
    draw(figure)


def test_learning_curves_of_nothing():
    figure = learning_curves(RECORDED.iloc[:0], HIGHER)
    assert figure.axes[0].get_title() == "no values recorded"
    draw(figure)


@pytest.mark.parametrize("rows", [1, 300])
def test_scatter(rows):
    gold = np.random.default_rng(0).normal(size=rows)
    figure = scatter(Predictions(gold, gold + 0.5))
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.c_[gold, gold + 0.5])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true value", "predicted value")
    assert "RMSE 0.5" in axes.get_title()
    draw(figure)


def test_a_figure_is_saved_with_the_bytes_that_matplotlib_saves():
    saved = io.BytesIO()
    learning_curves(RECORDED, HIGHER).savefig(saved, format="png", metadata={"Software": None})
    assert draw(learning_curves(RECORDED, HIGHER)) == saved.getvalue()


def test_nothing_global_is_touched():
    code = """
import sys, matplotlib, numpy
from pipeline_lib.evaluation.report.figures import confusion
def settings():  # merely asking for "backend" would import pyplot
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()
confusion(numpy.eye(3, dtype=int), ["a", "b", "c"]).canvas.draw()
print("matplotlib.pyplot" in sys.modules, before == settings())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
