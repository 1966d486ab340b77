"""The figure of a sweep: what a score costs."""

from collections.abc import Iterator, Sequence
from math import ceil, cos, pi, sin
from typing import TYPE_CHECKING, Any

from pipeline_lib.evaluation.report.figures import BLUE, GREY, VERMILLION, blank, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2
"""Of names in the legend."""
APART = 11.0
"""Points between the centres of two numbers, or of a number and a marker, that do not touch."""


def front(costs: Sequence[float], scores: Sequence[float], higher_is_better: bool) -> list[int]:
    """The Pareto front by rising cost: the points [n] to which no other is preferable in both cost and score."""
    gain = [score if higher_is_better else -score for score in scores]
    kept: list[int] = []
    for point in sorted(range(len(gain)), key=lambda index: (costs[index], -gain[index])):
        last = kept[-1] if kept else None
        if last is None or gain[point] > gain[last] or (costs[point], gain[point]) == (costs[last], gain[last]):
            kept.append(point)
    return kept


def pareto(variants: Sequence[Any], metric: str, higher_is_better: bool) -> "Figure":
    """Scores with their intervals over trained parameters, seconds and, where all have one, cost.

    Vermillion: on the front.
    """
    costs = {
        "trained parameters": [each.trained for each in variants],
        "seconds of training": [each.seconds for each in variants],
        "cost of training": [each.cost for each in variants],
    }
    shown = {label: values for label, values in costs.items() if None not in values}
    figure = blank(5.5 * len(shown), 4.5 + 0.2 * ceil(len(variants) / COLUMNS))
    panels = figure.subplots(1, len(shown), sharey=True)
    for axes, (label, values) in zip(panels, shown.items(), strict=True):
        _panel(axes, values, variants, higher_is_better)
        axes.set(xlabel=label)
    panels[0].set(ylabel=metric)
    _legend(figure, variants)
    tidy(figure)
    figure.draw_without_rendering()  # numbers are placed once the panels have their size
    figure.set_layout_engine("none")
    for axes, values in zip(panels, shown.values(), strict=True):
        _number_points(axes, [*zip(values, (each.score for each in variants), strict=True)])
    return figure


def _panel(axes: "Axes", costs: Sequence[float], variants: Sequence[Any], higher_is_better: bool) -> None:
    best = front(costs, [each.score for each in variants], higher_is_better)
    for index, (cost, each) in enumerate(zip(costs, variants, strict=True)):
        colour = VERMILLION if index in best else BLUE
        axes.plot([cost, cost], [each.low, each.high], color=colour, alpha=0.5)
        axes.plot(cost, each.score, "o", color=colour)
    axes.step([costs[i] for i in best], [variants[i].score for i in best], "--", where="post", color=GREY, zorder=0)
    axes.set(xscale="log")


def _legend(figure: "Figure", variants: Sequence[Any]) -> None:
    """The variants' names by their numbers: written beside the points, long names would run into one another."""
    from matplotlib.lines import Line2D

    names = [f"{number}  {each.name}" for number, each in enumerate(variants, 1)]
    nothing = [Line2D([], [], linestyle="none") for _ in names]
    place: dict[str, Any] = {
        "loc": "outside lower left",
        "ncols": COLUMNS,
        "fontsize": 8,
        "frameon": False,
        "handlelength": 0,
    }
    for text in figure.legend(nothing, names, **place).get_texts():
        text.set_parse_math(False)  # a name may hold a "$"


def _number_points(axes: "Axes", points: Sequence[tuple[float, float]]) -> None:
    """Write each point's number beside it, at the nearest place that no marker and no other number takes."""
    scale = 72 / axes.figure.dpi
    markers = [tuple(pixel * scale for pixel in axes.transData.transform(point)) for point in points]
    taken = [*markers]
    for number, (point, (x, y)) in enumerate(zip(points, markers, strict=True), 1):
        for right, up in _offsets():
            if all((x + right - left) ** 2 + (y + up - down) ** 2 >= APART**2 for left, down in taken):
                break
        taken.append((x + right, y + up))
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5} if right**2 + up**2 > (2 * APART) ** 2 else None
        centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "annotation_clip": False}
        axes.annotate(str(number), point, (right, up), textcoords="offset points", arrowprops=line, **centred)


def _offsets() -> Iterator[tuple[float, float]]:
    """Places around a point in points, the nearest first."""
    for ring in range(1, 12):
        radius = APART * (0.5 + 0.55 * ring)
        for turn in range(16):
            angle = pi / 4 + 2 * pi * turn / 16
            yield radius * cos(angle), radius * sin(angle)
