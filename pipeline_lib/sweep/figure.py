"""The figure of a sweep: scores against costs."""

from collections.abc import Iterator, Sequence
from math import ceil, cos, pi, sin
from typing import TYPE_CHECKING, Any

from pipeline_lib.evaluation.report.figures import BLUE, GREY, VERMILLION, create_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2
"""Columns of the legend."""
APART = 11.0
"""Minimal distance, in points, between the centres of two numbers, or of a number and a marker."""


def front(costs: Sequence[float], scores: Sequence[float], higher_is_better: bool) -> list[int]:
    """The indices of the points on the Pareto front, in order of increasing cost."""
    gain = [score if higher_is_better else -score for score in scores]
    on_front: list[int] = []
    for point in sorted(range(len(gain)), key=lambda index: (costs[index], -gain[index])):
        last = on_front[-1] if on_front else None
        if last is None or gain[point] > gain[last] or (costs[point], gain[point]) == (costs[last], gain[last]):
            on_front.append(point)
    return on_front


def pareto(variants: Sequence[Any], metric: str, higher_is_better: bool) -> "Figure":
    """Plot scores with their intervals against trained parameters, seconds and, if all have one, cost.

    Variants on the Pareto front are vermillion.
    """
    costs = {
        "trained parameters": [variant.trained for variant in variants],
        "seconds of training": [variant.seconds for variant in variants],
        "cost of training": [variant.cost for variant in variants],
    }
    shown = {label: values for label, values in costs.items() if None not in values}
    figure = create_figure(5.5 * len(shown), 4.5 + 0.2 * ceil(len(variants) / COLUMNS))
    panels = figure.subplots(1, len(shown), sharey=True)
    for axes, (label, values) in zip(panels, shown.items(), strict=True):
        _panel(axes, values, variants, higher_is_better)
        axes.set(xlabel=label)
    panels[0].set(ylabel=metric)
    _legend(figure, variants)
    tidy(figure)
    engine = figure.get_layout_engine()
    assert engine  # `create_figure` has set one
    engine.execute(figure)  # fixes the size of the panels, which the positions of numbers depend on
    figure.set_layout_engine("none")
    for axes, values in zip(panels, shown.values(), strict=True):
        _number_points(axes, [*zip(values, (variant.score for variant in variants), strict=True)])
    return figure


def _panel(axes: "Axes", costs: Sequence[float], variants: Sequence[Any], higher_is_better: bool) -> None:
    best = front(costs, [variant.score for variant in variants], higher_is_better)
    for index, (cost, variant) in enumerate(zip(costs, variants, strict=True)):
        colour = VERMILLION if index in best else BLUE
        axes.plot([cost, cost], [variant.low, variant.high], color=colour, alpha=0.5)
        axes.plot(cost, variant.score, "o", color=colour)
    axes.step([costs[i] for i in best], [variants[i].score for i in best], "--", where="post", color=GREY, zorder=0)
    axes.set(xscale="log")


def _legend(figure: "Figure", variants: Sequence[Any]) -> None:
    """Add a legend of numbered names: written next to the points, long names would overlap."""
    from matplotlib.lines import Line2D

    names = [f"{number}  {variant.name}" for number, variant in enumerate(variants, 1)]
    invisible = [Line2D([], [], linestyle="none") for _ in names]
    style: dict[str, Any] = {
        "loc": "outside lower left",
        "ncols": COLUMNS,
        "fontsize": 8,
        "frameon": False,
        "handlelength": 0,
    }
    for text in figure.legend(invisible, names, **style).get_texts():
        text.set_parse_math(False)  # a name may contain "$"


def _number_points(axes: "Axes", points: Sequence[tuple[float, float]]) -> None:
    """Write each point's number next to it, at the nearest position without a marker or another number."""
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
    """Offsets around a point, in typographic points, the nearest first."""
    for ring in range(1, 12):
        radius = APART * (0.5 + 0.55 * ring)
        for turn in range(16):
            angle = pi / 4 + 2 * pi * turn / 16
            yield radius * cos(angle), radius * sin(angle)
