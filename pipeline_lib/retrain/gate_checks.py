"""The decision between champion and challenger, from predictions alone, without models or registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import Answers, compare_sides
from pipeline_lib.evaluation.statistics.power import POWER, detectable
from pipeline_lib.retrain.gate import Floor, Gate

Verdict = Literal["promoted", "refused", "blocked", "nothing to do"]


@dataclass(frozen=True)
class Decision:
    """The result of a retraining, and the reason."""

    verdict: Verdict
    reason: str
    version: int | None = None
    """The challenger's version in the registry, if it was registered."""
    champion: int | None = None
    """The champion's version that it was compared with."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """The values that the decision is based on, by name."""
    notes: tuple[str, ...] = ()
    """What could not be measured, as sentences."""


class GateCheck(NamedTuple):
    """One condition for promotion: whether it holds, a description, and its numbers."""

    holds: bool
    words: str
    numbers: dict[str, float]


def check_against_champion(
    gate: Gate, name: str, metric: Metric, champion: Predictions | RowCounts, challengers: Answers, chosen: int
) -> list[GateCheck]:
    """Check that the chosen challenger, and all challengers on average if there are several, are not inferior.

    A check holds if the one-sided lower confidence bound of challenger - champion, oriented so that higher is better,
    is above -margin: Piaggio et al. (2012), "Reporting of Noninferiority and Equivalence Randomized Trials", figure 1;
    the bound is that of a paired bootstrap (`evaluation/statistics`). At most the share 1 - confidence of challengers
    that are truly worse by the margin pass. Requiring both checks cannot raise that share: Berger (1982),
    "Multiparameter Hypothesis Testing and Acceptance Sampling", theorem 1.

    Args:
        gate: The gate's settings.
        name: The metric's name.
        metric: The metric to compare by.
        champion: The champion's predictions.
        challengers: Predictions of all challengers for the same rows.
        chosen: Index of the challenger to promote.
    """
    checks = [_check_noninferiority("the challenger", gate, name, metric, champion, [challengers[chosen]])]
    if len(challengers) > 1:
        mean = f"the mean of {len(challengers)} seeds"
        checks.append(_check_noninferiority(mean, gate, name, metric, champion, challengers))
    return checks


def _check_noninferiority(
    subject: str, gate: Gate, name: str, metric: Metric, champion: Predictions | RowCounts, challengers: Answers
) -> GateCheck:
    """One check that `subject`, with predictions by one or more challengers, is not inferior to the champion."""
    level = 2 * gate.confidence - 1  # the two-sided interval at this level has the one-sided bound as an end
    difference = compare_sides([champion], challengers, {name: metric}, level)[name]
    if metric.higher_is_better:
        gain, bound = difference.value, difference.low
    else:  # a loss: a fall is a gain, and the largest rise is the least gain
        gain, bound = -difference.value, -difference.high
    smallest = detectable(difference.error, level)
    holds = bool(bound > -gate.margin)  # False for nan
    than = "better than the champion" if not gate.margin else f"no more than {gate.margin:g} worse than the champion"
    words = (
        f"{subject} is {'' if holds else 'not shown to be '}{than} in {name} "
        f"({difference.b:.4f} against {difference.a:.4f}: gain {gain:+.4f}, "
        f"at {gate.confidence:.0%} confidence at least {bound:+.4f}; "
        f"these rows detect a difference of {smallest:.4f} with a power of {POWER:g})"
    )
    end = "" if len(challengers) == 1 else ".seeds"
    numbers = {
        "champion": difference.a,
        "challenger": difference.b,
        "gain": gain,
        "bound": bound,
        "margin": gate.margin,
        "detectable": smallest,
    }
    return GateCheck(holds, words, {f"{name}{end}.{part}": value for part, value in numbers.items()})


def check_floors(
    floors: Sequence[Floor],
    metrics: Mapping[str, Metric],
    challenger: Predictions | RowCounts,
    columns: Mapping[str, Sequence[object]],
) -> list[GateCheck]:
    """Check each floor against the metric's value. A floor without rows, or with a missing column, does not hold.

    Args:
        floors: The gate's floors.
        metrics: The objective's metrics.
        challenger: The challenger's predictions.
        columns: Values of the test rows in the columns that floors refer to.
    """
    return [_check_floor(floor, metrics[floor.metric], challenger, columns) for floor in floors]


def _check_floor(
    floor: Floor, metric: Metric, challenger: Predictions | RowCounts, columns: Mapping[str, Sequence[object]]
) -> GateCheck:
    part, condition = challenger, ""
    if floor.column is not None:
        # a gate names values as text; a column that is missing selects no rows, so the floor does not hold
        selected = [str(value) == floor.value for value in columns.get(floor.column, ())]
        part = challenger.take(np.flatnonzero(selected))
        condition = f" where {floor.column} is {floor.value}"
    value = metric.function(part) if len(part) else float("nan")
    holds = bool(value >= floor.bound if metric.higher_is_better else value <= floor.bound)
    side = "within" if holds else "beyond"
    words = f"its {floor.metric}{condition} is {value:.4f} on {len(part):,} rows, {side} its bound of {floor.bound:g}"
    return GateCheck(holds, words, {f"floor.{floor.metric}{condition.replace(' ', '.')}": value})


def decide(checks: Sequence[GateCheck], champion: int | None) -> Decision:
    """Promote if all checks hold; the reason lists the checks that failed, or else all of them."""
    failed = [check for check in checks if not check.holds]
    words = [check.words for check in failed or checks]
    if champion is None:
        words.insert(0, "there is no champion yet")
    numbers = {name: value for check in checks for name, value in check.numbers.items()}
    return Decision("refused" if failed else "promoted", "; ".join(words), champion=champion, numbers=numbers)
