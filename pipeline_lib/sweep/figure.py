"""The figure of a sweep: what a score costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline_lib.evaluation.figures import BLUE, GREY, VERMILLION, blank, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    figure = blank(5.5 * len(shown), 4.5)
    panels = figure.subplots(1, len(shown), sharey=True)
    for axes, (label, values) in zip(panels, shown.items(), strict=True):
        _panel(axes, values, variants, higher_is_better)
        axes.set(xlabel=label)
    panels[0].set(ylabel=metric)
    return tidy(figure)


def _panel(axes: "Axes", costs: Sequence[float], variants: Sequence[Any], higher_is_better: bool) -> None:
    best = front(costs, [each.score for each in variants], higher_is_better)
    for index, (cost, each) in enumerate(zip(costs, variants, strict=True)):
        colour = VERMILLION if index in best else BLUE
        axes.plot([cost, cost], [each.low, each.high], color=colour, alpha=0.5)
        axes.plot(cost, each.score, "o", color=colour)
        text = axes.annotate(each.name, (cost, each.score), (6, 4), textcoords="offset points", fontsize=7)
        text.set_parse_math(False)  # a name may hold a "$"
    axes.step([costs[i] for i in best], [variants[i].score for i in best], "--", where="post", color=GREY, zorder=0)
    axes.set(xscale="log")
