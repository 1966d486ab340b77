"""The step `sweep`: compare scores and costs of all variants, and test which differences are beyond chance.

comparison.json   the variants with score, interval, trained parameters, seconds and cost; a summary; pruned runs
comparison.md     the same in Markdown
pareto.png        score against trained parameters, time and, if all have one, cost, with the Pareto fronts
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
from pipeline_lib.evaluation.report.figures import save_figure
from pipeline_lib.evaluation.report.tables import markdown_table, number
from pipeline_lib.evaluation.statistics.bootstrap import beyond_chance, draw, ends
from pipeline_lib.sweep.figure import pareto
from pipeline_lib.util.strict_json import finite, strict_json


@dataclass(frozen=True)
class Run:
    """One run of a variant: its predictions, number of trained parameters, seconds and, if known, cost."""

    variant: str
    scored: KeyedPredictions
    trained: int
    seconds: float
    cost: float | None = None


@dataclass(frozen=True)
class Variant:
    """A variant's mean score over seeds, with the bounds of its interval, and its mean costs."""

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
    """Write the comparison.

    Args:
        runs: The completed runs.
        name: The metric's name.
        metric: The metric to compare by.
        level: Confidence level.
        folder: The artifact's folder.
        stopped: Why runs were stopped early, by their names.

    Raises:
        RecipeError: If the runs were not evaluated on the same test rows.
    """
    sides = _sides(runs)
    values, draws, groups = draw([[run.scored.outcome for run in side] for side in sides.values()], {name: metric})
    values, draws = values[:, 0], draws[:, :, 0]
    low, high = ends(draws, level, groups - 1)
    scores = zip(sides.items(), values.tolist(), low.tolist(), high.tolist(), strict=True)
    variants = [_variant(variant, side, *score) for (variant, side), *score in scores]
    summary = describe_ranking(variants, name, metric, sure_pairs(values, draws, level, groups), level)
    document = {"metric": name, "level": level, "rows": len(runs[0].scored.rows), "said": summary}
    document |= {"variants": [asdict(variant) for variant in variants], "stopped": dict(stopped)}
    (folder / "comparison.json").write_text(strict_json(document, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "comparison.md").write_text(comparison_markdown(finite(document)), encoding="utf-8")
    save_figure(pareto(variants, name, metric.higher_is_better), folder / "pareto.png")


def _variant(name: str, side: Sequence[Run], score: float, low: float, high: float) -> Variant:
    seconds = sum(run.seconds for run in side) / len(side)
    costs = [run.cost for run in side if run.cost is not None]
    cost = sum(costs) / len(side) if len(costs) == len(side) else None
    return Variant(name, len(side), score, low, high, side[0].trained, seconds, cost)


def _sides(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs by variant, with rows in the same order; raises RecipeError if their test rows differ."""
    sides: dict[str, list[Run]] = {}
    for run in runs:
        ordered = replace(run, scored=run.scored.sorted_by_hash)
        sides.setdefault(run.variant, []).append(ordered)
        if not np.array_equal(ordered.scored.rows, next(iter(sides.values()))[0].scored.rows):
            hint = "Set data.source.test, or use the same data.split.seed in all recipes"
            raise RecipeError("sweep", run.variant, "has other test rows than the first recipe", hint)
    return sides


def sure_pairs(values: np.ndarray, draws: np.ndarray, level: float, groups: int) -> set[tuple[int, int]]:
    """Find the pairs (i, j), i < j, of sides that differ beyond chance, corrected for testing all pairs.

    Because all pairs are tested together, the result also holds for the best side, which the same rows selected.

    Args:
        values: [sides] scores.
        draws: [resamples, sides] scores on resamples.
        level: Confidence level for all pairs together.
        groups: Number of independent groups of rows.
    """
    pairs = list(combinations(range(len(values)), 2))
    if not pairs:
        return set()
    one, other = np.array(pairs).T
    sure = beyond_chance(values[other] - values[one], draws[:, other] - draws[:, one], level, groups)
    return {pair for pair, is_sure in zip(pairs, sure, strict=True) if is_sure}


def describe_ranking(
    variants: Sequence[Variant], name: str, metric: Metric, sure: set[tuple[int, int]], level: float
) -> str:
    """Describe the best variant, and which others it beats beyond chance."""
    best, *others = sorted(range(len(variants)), key=lambda index: _rank(variants[index].score, metric))
    worse: list[str] = []
    similar: list[str] = []
    for other in others:
        pair = (min(best, other), max(best, other))  # pairs in `sure` have the lower index first
        (worse if pair in sure else similar).append(variants[other].name)
    parts = [f"{variants[best].name} has the best {name} ({variants[best].score:.4f})"]
    if worse:
        parts.append(f"it is better than {', '.join(worse)} beyond chance")
    if similar:
        parts.append(f"its difference to {', '.join(similar)} is within chance")
    units = "rows and seeds" if any(variant.seeds > 1 for variant in variants) else "rows"
    method = f"All pairs were tested together at {level:.0%}, by a paired bootstrap over {units}."
    return f"{'; '.join(parts)}. {method} The best was selected on these rows, so its score is slightly optimistic."


def _rank(score: float, metric: Metric) -> float:
    """A sort key: lower is better, and an undefined score comes last."""
    if math.isnan(score):
        return math.inf
    return -score if metric.higher_is_better else score


def comparison_markdown(document: Mapping[str, Any]) -> str:
    """Format the comparison in Markdown, in the order of the runs, followed by the runs that were stopped early."""
    variants, level = document["variants"], f"{document['level']:.0%} interval"
    columns: dict[str, list[Any]] = {
        "variant": [variant["name"] for variant in variants],
        document["metric"]: [number(variant["score"]) for variant in variants],
        level: [f"{number(variant['low'])} to {number(variant['high'])}" for variant in variants],
        "trained parameters": [f"{variant['trained']:,}" for variant in variants],
        "seconds": [f"{variant['seconds']:.1f}" for variant in variants],
    }
    if any(variant["cost"] is not None for variant in variants):
        columns["cost"] = ["–" if variant["cost"] is None else f"{variant['cost']:.4g}" for variant in variants]
    columns["seeds"] = [variant["seeds"] for variant in variants]
    title = f"# {document['metric']} on {document['rows']:,} test rows"
    table = markdown_table([*columns], [*map(list, zip(*columns.values(), strict=True))])
    return f"{title}\n\n{document['said']}\n\n{table}\n{_list_stopped(document['stopped'])}"


def _list_stopped(stopped: Mapping[str, str]) -> str:
    """List the runs that were stopped early; a variant's other seeds are compared without them."""
    if not stopped:
        return ""
    lines = "\n".join(f"- {name} stopped early: {why}" for name, why in stopped.items())
    note = "Not compared (a variant's score excludes its seeds that stopped early, which makes it optimistic)"
    return f"\n{note}:\n\n{lines}\n"
