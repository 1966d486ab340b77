"""Figures of an evaluation, drawn without pyplot: no global state, thread-safe, and no display needed.

Colours are blue and vermillion of Okabe & Ito (2008), "Color Universal Design", and shades of one hue, which readers
with colour vision deficiency can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from pipeline_lib.evaluation.metrics.classification import calibration, expected_calibration_error
from pipeline_lib.evaluation.metrics.regression import pearson, rmse
from pipeline_lib.evaluation.predictions import BINS, Predictions
from pipeline_lib.evaluation.row_errors import RowErrors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#767676"
COUNTS_UP_TO = 20
"""With more classes than this, counts do not fit into their cells."""


def confusion(matrix: np.ndarray, labels: Sequence[str]) -> Figure:
    """Plot a confusion matrix [K, K], gold labels by row; the shade is a cell's share of its gold label's rows."""
    from matplotlib.colors import PowerNorm

    matrix, classes = np.asarray(matrix), len(labels)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(max(3.0, classes * (0.5 if classes <= COUNTS_UP_TO else 0.17)), 40.0)
    figure = create_figure(side + 2.5, side + 1.8)
    axes = figure.add_subplot()
    # the square root of the share: else a confusion of one row in twenty would look white
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the gold label's rows", ticks=[0, 0.05, 0.2, 0.5, 1])
    _name_cells(axes, labels)
    if classes <= COUNTS_UP_TO:
        _write_counts(axes, matrix, shares)
    right, rows = int(np.trace(matrix)), int(matrix.sum())
    axes.set(xlabel="predicted label", ylabel="gold label")
    axes.set_title(f"Predicted against gold label\n({right:,} of {rows:,} rows agree)")
    return figure


def reliability(outcome: Predictions) -> Figure:
    """Plot a reliability diagram (Guo et al. 2017, figure 1) with a histogram of the confidence."""
    bins = calibration(outcome)
    total, filled = max(bins.decisions.sum(), 1), bins.decisions > 0
    confidence, accuracy = (np.nansum(part * bins.decisions) / total for part in (bins.confidence, bins.accuracy))
    figure = create_figure(5, 6)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    edges = np.arange(BINS) / BINS
    columns = {"width": 1 / BINS, "align": "edge", "edgecolor": "white"}
    upper.bar(edges, bins.accuracy, **columns, color=BLUE, alpha=0.35, label="accuracy by bin")
    upper.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=BLUE, markersize=4, clip_on=False)
    upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfect calibration")
    upper.legend(frameon=False, loc="upper left")
    upper.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1))
    error = expected_calibration_error(outcome)
    upper.set_title(f"mean confidence {confidence:.1%}, accuracy {accuracy:.1%}\n(calibration error {error:.3f})")
    lower.bar(edges, bins.decisions / total, **columns, color=GREY)
    unit = "decisions" if outcome.multi_label else "rows"
    lower.set(xlabel="confidence: probability of the prediction", ylabel=f"share of {unit}")
    return tidy(figure)


def learning_curves(history: DataFrame, higher_is_better: Mapping[str, bool]) -> Figure:
    """Plot each metric over the steps in a panel, the loss first; mark the best value of those in `higher_is_better`.

    Args:
        history: One row per measurement: step, epoch, split ("train" or "validation"), metric, value.
        higher_is_better: The metrics to mark, and whether their highest or lowest value is best.
    """
    history = history.dropna(subset=["value"])
    metrics = sorted(history["metric"].unique(), key=lambda name: name != "loss") or ["loss"]
    columns = min(3, len(metrics))
    rows = ceil(len(metrics) / columns)
    figure = create_figure(4.8 * columns, 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _curves(axes, history[history["metric"] == metric], metric, higher_is_better.get(metric))
    for axes in panels[len(metrics) :]:
        axes.remove()
    return tidy(figure)


def scatter(outcome: Predictions) -> Figure:
    """Plot predicted over gold numbers [n], in the unit of the data, with the line where they are equal."""
    figure = create_figure(5, 5)
    axes = figure.add_subplot()
    opacity = min(0.7, 20 / max(len(outcome), 1) ** 0.5)  # so that dense regions remain visible
    axes.scatter(outcome.gold, outcome.guess, s=14, color=BLUE, alpha=opacity, linewidths=0)
    axes.axline((0, 0), slope=1, linestyle="--", color=GREY, label="predicted = true")
    axes.legend(frameon=False, loc="upper left")
    axes.set(xlabel="true value", ylabel="predicted value", aspect="equal", adjustable="datalim")
    axes.set_title(f"Predicted and true values\n(RMSE {rmse(outcome):.3g}, Pearson {pearson(outcome):.3f})")
    return tidy(figure)


def error_by_length(lengths: np.ndarray, errors: RowErrors) -> Figure:
    """Plot the mean error against the length, in up to ten bins of about equally many rows.

    The bars are normal 95 % intervals: 1.96 standard errors to each side.

    Args:
        lengths: [n] tokens of each row.
        errors: The errors of the n rows.
    """
    bins = np.array_split(np.argsort(lengths, kind="stable"), min(10, max(1, len(lengths) // 10)))
    means = np.array([errors.error[rows].mean() for rows in bins])
    half_widths = np.array(
        [1.96 * errors.error[rows].std(ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else 0 for rows in bins]
    )
    figure = create_figure(6, 4)
    axes = figure.add_subplot()
    axes.errorbar([lengths[rows].mean() for rows in bins], means, yerr=half_widths, marker="o", color=BLUE, capsize=3)
    axes.set(xlabel="tokens", ylabel=f"mean error ({errors.unit})", ylim=(min(0, (means - half_widths).min()), None))
    axes.set_title(f"Error by length\n({len(lengths):,} rows in bins of about {len(bins[0]):,})")
    return tidy(figure)


def create_figure(width: float, height: float) -> Figure:
    """Create an empty figure of this size in inches, rendered by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    return figure


def tidy(figure: Figure) -> Figure:
    """Remove the frames of a figure and add a light grid."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def save_figure(figure: Figure, file: Path | BinaryIO) -> None:
    """Write a figure as PNG; the same bytes as `Figure.savefig`, which draws twice: before the layout and after it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def _name_cells(axes: Axes, labels: Sequence[str]) -> None:
    """Label rows and columns of the confusion matrix; with many labels only every n-th."""
    step = ceil(len(labels) / 240)  # more names than this overlap at the largest size
    names = [label if len(label) <= 32 else label[:31] + "…" for label in labels][::step]
    ticks, size = range(0, len(labels), step), 9 if len(labels) <= COUNTS_UP_TO else 6.5
    axes.set_xticks(ticks, names, rotation=90, fontsize=size, parse_math=False)  # a label may contain "$"
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)


def _write_counts(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.argwhere(matrix):
        colour = "white" if shares[row, column] > 0.4 else "black"
        axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)


def _curves(axes: Axes, history: DataFrame, metric: str, higher_is_better: bool | None) -> None:
    """Plot training as a line and validation as dots, with a ring around the best validation score."""
    axes.set(xlabel="step", ylabel=metric, title=metric if len(history) else "no values recorded")
    for split, colour in {"train": BLUE, "validation": VERMILLION}.items():
        values = history[history["split"] == split].sort_values("step")
        if len(values):
            marker = "o" if split == "validation" or len(values) == 1 else ""
            axes.plot(values["step"], values["value"], marker=marker, markersize=4, color=colour, label=split)
    if axes.lines:
        axes.legend(frameon=False)
    measured = history[history["split"] == "validation"]
    if higher_is_better is not None and len(measured):
        best = measured.sort_values("value", ascending=not higher_is_better, kind="stable").iloc[0]
        axes.plot(best["step"], best["value"], "o", markersize=10, markerfacecolor="none", color=VERMILLION)
        position = f"step {best['step']:,.0f}, epoch {best['epoch']:.3g}"
        axes.set_title(f"{metric}: best {best['value']:.4g} on validation\n({position})")
