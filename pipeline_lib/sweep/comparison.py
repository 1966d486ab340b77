"""The step `sweep`: scores of all variants against what they cost, and which differences are beyond chance.

comparison.json   the variants with score, interval, trained parameters, seconds and cost; the sentence; what was pruned
comparison.md     the same as a page
pareto.png        score against trained parameters, time and, where all have one, cost, with the fronts
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.predictions_file import KeyedPredictions
from pipeline_lib.evaluation.report.tables import markdown_table, number
from pipeline_lib.evaluation.statistics.bootstrap import beyond_chance, draw, ends
from pipeline_lib.sweep.figure import pareto
from pipeline_lib.util.strict_json import finite, strict_json


@dataclass(frozen=True)
class Run:
    """One run of a variant: its answers, the parameters that were trained, the seconds and the money that it took."""

    variant: str
    scored: KeyedPredictions
    trained: int
    seconds: float
    cost: float | None = None


@dataclass(frozen=True)
class Variant:
    """What is compared: its mean score over seeds with the ends of its interval, and what it costs."""

    name: str
    seeds: int
    score: float
    low: float
    high: float
    trained: int
    seconds: float
    cost: float | None


def write_comparison(
    runs: Sequence[Run], name: str, metric: Metric, level: float, folder: Path, stopped: Mapping[str, str] = {}
) -> None:
    """Write the comparison; raises RecipeError where runs did not answer the same test rows.

    `stopped` says of runs that were ended early why, by their names.
    """
    sides = _sides(runs)
    values, draws, groups = draw([[run.scored.outcome for run in side] for side in sides.values()], {name: metric})
    values, draws = values[:, 0], draws[:, :, 0]
    low, high = ends(draws, level, groups)
    facts = zip(sides.items(), values.tolist(), low.tolist(), high.tolist(), strict=True)
    variants = [_variant(variant, side, *score) for (variant, side), *score in facts]
    told = in_words(variants, name, metric, sure_pairs(values, draws, level, groups), level)
    document = {"metric": name, "level": level, "rows": len(runs[0].scored.rows), "said": told}
    document |= {"variants": [asdict(each) for each in variants], "stopped": dict(stopped)}
    (folder / "comparison.json").write_text(strict_json(document, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "comparison.md").write_text(markdown(finite(document)), encoding="utf-8")
    figure = pareto(variants, name, metric.higher_is_better)
    figure.savefig(folder / "pareto.png", metadata={"Software": None})


def _variant(name: str, side: Sequence[Run], score: float, low: float, high: float) -> Variant:
    seconds = sum(run.seconds for run in side) / len(side)
    costs = [run.cost for run in side if run.cost is not None]
    cost = sum(costs) / len(side) if len(costs) == len(side) else None
    return Variant(name, len(side), score, low, high, side[0].trained, seconds, cost)


def _sides(runs: Sequence[Run]) -> dict[str, list[Run]]:
    sides: dict[str, list[Run]] = {}
    for run in runs:
        ordered = replace(run, scored=run.scored.ordered)
        sides.setdefault(run.variant, []).append(ordered)
        if not np.array_equal(ordered.scored.rows, next(iter(sides.values()))[0].scored.rows):
            hint = "Name data.source.test, or set data.split.seed to one number in all recipes"
            raise RecipeError("sweep", run.variant, "answered other test rows than the first recipe", hint)
    return sides


def sure_pairs(values: np.ndarray, draws: np.ndarray, level: float, groups: int) -> set[tuple[int, int]]:
    """The pairs (i, j), i < j, of sides whose values [sides] differ beyond chance, all pairs together; by their draws
    [resamples, sides]. As all pairs count, it may be asked of the best, which the same rows have picked."""
    pairs = list(combinations(range(len(values)), 2))
    if not pairs:
        return set()
    one, other = np.array(pairs).T
    sure = beyond_chance(values[other] - values[one], draws[:, other] - draws[:, one], level, groups)
    return {pair for pair, found in zip(pairs, sure, strict=True) if found}


def in_words(variants: Sequence[Variant], name: str, metric: Metric, sure: set[tuple[int, int]], level: float) -> str:
    """The best variant, and which of the others it leaves behind beyond chance."""
    order = sorted(range(len(variants)), key=lambda index: _rank(variants[index].score, metric))
    best, others = order[0], order[1:]
    worse = [variants[other].name for other in others if (min(best, other), max(best, other)) in sure]
    even = [variants[other].name for other in others if variants[other].name not in worse]
    parts = [f"{variants[best].name} has the best {name} ({variants[best].score:.4f})"]
    parts += [f"it is better than {', '.join(worse)} beyond chance"] if worse else []
    parts += [f"its difference to {', '.join(even)} is within chance"] if even else []
    over = "rows and seeds" if any(each.seeds > 1 for each in variants) else "rows"
    end = f"All pairs were tested together at {level:.0%}, by a paired bootstrap over {over}."
    return f"{'; '.join(parts)}. {end} The best was picked on these rows, which flatters its score a little."


def _rank(score: float, metric: Metric) -> float:
    """The lower the better; an undefined score comes last."""
    return math.inf if math.isnan(score) else -score if metric.higher_is_better else score


def markdown(document: Mapping[str, Any]) -> str:
    """The comparison as a page, in the order of the runs, and below it what was stopped early."""
    variants, level = document["variants"], f"{document['level']:.0%} interval"
    columns: dict[str, list[Any]] = {
        "variant": [each["name"] for each in variants],
        document["metric"]: [number(each["score"]) for each in variants],
        level: [f"{number(each['low'])} to {number(each['high'])}" for each in variants],
        "trained parameters": [f"{each['trained']:,}" for each in variants],
        "seconds": [f"{each['seconds']:.1f}" for each in variants],
    }
    if any(each["cost"] is not None for each in variants):
        columns["cost"] = ["–" if each["cost"] is None else f"{each['cost']:.4g}" for each in variants]
    columns["seeds"] = [each["seeds"] for each in variants]
    title = f"# {document['metric']} on {document['rows']:,} test rows"
    table = markdown_table([*columns], [*map(list, zip(*columns.values(), strict=True))])
    return f"{title}\n\n{document['said']}\n\n{table}\n{_stopped(document['stopped'])}"


def _stopped(stopped: Mapping[str, str]) -> str:
    """What was ended early; a variant's other seeds are compared without it."""
    if not stopped:
        return ""
    told = "\n".join(f"- {name} stopped early: {why}" for name, why in stopped.items())
    return f"\nNot compared (a variant's score leaves out its seeds that stopped early, which flatters it):\n\n{told}\n"
