"""The decision between champion and challenger: pure numbers, no model and no registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import Answers, compare
from pipeline_lib.evaluation.statistics.power import POWER, detectable
from pipeline_lib.retrain.gate import Floor, Gate

Verdict = Literal["promoted", "refused", "blocked", "nothing to do"]


@dataclass(frozen=True)
class Decision:
    """What a retraining came to, and why."""

    verdict: Verdict
    reason: str
    version: int | None = None
    """The challenger's version in the registry, where it came so far."""
    champion: int | None = None
    """The version that it was judged against."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What the decision rests on, by name."""
    notes: tuple[str, ...] = ()
    """What it could not rest on, in words."""


class Check(NamedTuple):
    """One condition for promotion: whether it holds, the same in words, and its numbers."""

    holds: bool
    words: str
    numbers: dict[str, float]


def check_against_champion(
    gate: Gate, name: str, metric: Metric, champion: Predictions | RowCounts, challengers: Answers, chosen: int
) -> list[Check]:
    """The challenger that is to be promoted must not be worse than the champion by the margin or more; nor must all
    challengers on average, where there are several.

    A check holds where the one-sided lower confidence bound of challenger - champion, turned so that higher is better,
    is above -margin: Piaggio et al. (2012), "Reporting of Noninferiority and Equivalence Randomized Trials", figure 1;
    the bound is that of a paired bootstrap (`evaluation/statistics`). Of challengers that are truly worse by the
    margin at most 1 - confidence are let through. To ask for both checks cannot raise that share: Berger (1982),
    "Multiparameter Hypothesis Testing and Acceptance Sampling", theorem 1.
    """
    checks = [_not_worse("the challenger", gate, name, metric, champion, [challengers[chosen]])]
    if len(challengers) > 1:
        mean = f"the mean of {len(challengers)} seeds"
        checks.append(_not_worse(mean, gate, name, metric, champion, challengers))
    return checks


def _not_worse(
    what: str, gate: Gate, name: str, metric: Metric, champion: Predictions | RowCounts, challengers: Answers
) -> Check:
    level = 2 * gate.confidence - 1  # its lower end is the one-sided bound
    found = compare([champion], challengers, {name: metric}, level)[name]
    gain, bound = (found.value, found.low) if metric.higher_is_better else (-found.value, -found.high)
    smallest = detectable(found.error, level)
    holds = bool(bound > -gate.margin)  # not for nan
    than = "better than the champion" if not gate.margin else f"no more than {gate.margin:g} worse than the champion"
    words = (
        f"{what} is {'' if holds else 'not shown to be '}{than} in {name} ({found.b:.4f} against {found.a:.4f}: "
        f"better by {gain:+.4f}, at {gate.confidence:.0%} confidence by no less than {bound:+.4f}; these rows detect "
        f"{smallest:.4f} with a power of {POWER:g})"
    )
    end = "" if len(challengers) == 1 else ".seeds"
    numbers = {"champion": found.a, "challenger": found.b, "gain": gain, "bound": bound, "margin": gate.margin}
    numbers |= {"detectable": smallest}
    return Check(holds, words, {f"{name}{end}.{part}": value for part, value in numbers.items()})


def check_floors(
    floors: Sequence[Floor],
    metrics: Mapping[str, Metric],
    challenger: Predictions | RowCounts,
    columns: Mapping[str, Sequence[object]],
) -> list[Check]:
    """One check a floor, on the value itself; `columns` are those of the test rows, by which a floor's rows are chosen.

    A floor over no row, or over a column that is not there, does not hold: nothing shows that it does.
    """
    return [_above(floor, metrics[floor.metric], challenger, columns) for floor in floors]


def _above(
    floor: Floor, metric: Metric, challenger: Predictions | RowCounts, columns: Mapping[str, Sequence[object]]
) -> Check:
    part, where = challenger, ""
    if floor.column is not None:
        there = [str(value) == floor.value for value in columns.get(floor.column, ())]
        part, where = challenger.take(np.flatnonzero(there)), f" where {floor.column} is {floor.value}"
    value = metric.function(part) if len(part) else float("nan")
    holds = bool(value >= floor.bound if metric.higher_is_better else value <= floor.bound)
    side = "within" if holds else "beyond"
    words = f"its {floor.metric}{where} is {value:.4f} on {len(part):,} rows, {side} its bound of {floor.bound:g}"
    return Check(holds, words, {f"floor.{floor.metric}{where.replace(' ', '.')}": value})


def decide(checks: Sequence[Check], champion: int | None) -> Decision:
    """Promoted where all checks hold; the reason tells of those that do not, else of all."""
    failed = [check for check in checks if not check.holds]
    words = [*(["there is no champion yet"] if champion is None else []), *(check.words for check in failed or checks)]
    numbers = {name: value for check in checks for name, value in check.numbers.items()}
    return Decision("refused" if failed else "promoted", "; ".join(words), champion=champion, numbers=numbers)
