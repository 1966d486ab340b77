"""How often intervals hold the truth, and how often equal models are called different. Prints the tables as Markdown.

PYTHONPATH=tests python tests/benchmarks/coverage.py [repeats] [resamples] [part of a population's name]

It stops if a table of metrics has no population. Coverage of few rows cannot be exact: five rows of a class have six
outcomes, Brown, Cai & DasGupta (2001), "Interval Estimation for a Binomial Proportion", section 2.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from math import isnan

import numpy as np
from simulated_sets import (
    classified,
    coverage,
    desired,
    expected,
    in_groups,
    labelled,
    measured,
    preferred,
    questioned,
    scored,
    tagged,
    written,
)

from pipeline_lib.evaluation import metrics as metric_modules
from pipeline_lib.evaluation.metrics.classification import MULTI_LABEL, SINGLE_LABEL
from pipeline_lib.evaluation.metrics.generation import WRITTEN
from pipeline_lib.evaluation.metrics.perplexity import LIKELIHOOD
from pipeline_lib.evaluation.metrics.preference import PAIRED, SINGLE
from pipeline_lib.evaluation.metrics.question_answering import READING
from pipeline_lib.evaluation.metrics.regression import REGRESSION
from pipeline_lib.evaluation.metrics.spans import SPANS, TAGS
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.statistics.bootstrap import compare_sides
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import check_against_champion, decide

RIGHT = {"right": Metric(lambda totals: totals.mean("right"), True, "share that is right", bounds=(0, 1))}
TWENTY = 1 / np.arange(1, 21) ** 0.7
POPULATIONS = {
    "two classes, 50/50": (classified([0.5, 0.5], [0.9, 0.9], 1.2), SINGLE_LABEL, (100, 500)),
    "two classes, 95/5, rare one found in .7": (
        classified([0.95, 0.05], [0.97, 0.7], 1.2),
        SINGLE_LABEL,
        (100, 200, 1000),
    ),
    "two classes, 95/5, rare one found in .9": (classified([0.95, 0.05], [0.99, 0.9], 1.2), SINGLE_LABEL, (200, 1000)),
    "20 classes, the rarest 1/8 of the first": (
        classified(TWENTY / TWENTY.sum(), [0.85] * 20, 1.2),
        SINGLE_LABEL,
        (600,),
    ),
    "calibrated, 50/50": (scored(1.0, 0.5), SINGLE_LABEL, (300,)),
    "calibrated, 95/5": (scored(1.0, 0.05), SINGLE_LABEL, (300, 1000)),
    "too sure, 95/5": (scored(2.0, 0.05), SINGLE_LABEL, (300, 1000)),
    "far too sure, 50/50": (scored(4.0, 0.5), SINGLE_LABEL, (300,)),
    "50 classes of 8 rows": (classified([0.02] * 50, [0.8] * 50, 1.2), SINGLE_LABEL, (400,)),
    "four labels a row, the rarest in 5 %": (labelled([0.5, 0.3, 0.1, 0.05], 1.3), MULTI_LABEL, (200, 1000)),
    "numbers, t(8) errors": (measured(8), REGRESSION, (50, 300)),
    "spans of three types": (tagged([0.8, 0.3, 0.05], 0.8), SPANS, (100, 300)),
    "tags of three kinds": (tagged([4, 2, 0.3], 0.9), TAGS, (100, 300)),
    "questions, 10 % without an answer": (questioned(0.1, 0.7), READING, (100, 300)),
    "texts of a language model": (expected(), LIKELIHOOD, (100, 300)),
    "generated texts": (written(0.6), WRITTEN, (100, 300)),
    "pairs of answers": (preferred(0.7), PAIRED, (100, 300)),
    "single answers, 30 % desirable": (desired(0.3), SINGLE, (100, 300)),
    "right or wrong, groups of 1": (in_groups(1), RIGHT, (400,)),
    "right or wrong, groups of 5": (in_groups(5), RIGHT, (400,)),
    "right or wrong, groups of 10": (in_groups(10), RIGHT, (400,)),
}


def tables() -> Iterator[tuple[str, Mapping[str, Metric]]]:
    """Every table of metrics that the package has, by its name."""
    for module in pkgutil.iter_modules(metric_modules.__path__, metric_modules.__name__ + "."):
        for name, table in vars(importlib.import_module(module.name)).items():
            if (
                name.isupper()
                and isinstance(table, dict)
                and all(isinstance(value, Metric) for value in table.values())
            ):
                yield name, table


def refuse_missing_tables() -> None:
    """Stop where a metric would be left out."""
    simulated = {name for _, metrics, _ in POPULATIONS.values() for name in metrics}
    for name, table in tables():
        if missing := table.keys() - simulated:
            sys.exit(f"no population for {', '.join(sorted(missing))} of {name}")


def table_of_coverage(repeats: int, resamples: int, part: str) -> None:
    """Every metric of the populations whose names contain a part."""
    print("| population | rows | metric | truth | coverage | truth below | mean width | sets with an interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    chosen = {name: population for name, population in POPULATIONS.items() if part in name}
    for name, (population, metrics, sizes) in chosen.items():
        for rows in sizes:
            for metric, facts in coverage(population, metrics, rows, repeats, resamples).items():
                share = "–" if isnan(facts["coverage"]) else f"{facts['coverage']:.3f}"
                cells = [name, rows, metric, f"{facts['truth']:.4f}", share, f"{facts['below']:.3f}"]
                cells += [f"{facts['width']:.4f}", f"{facts['intervals']:.2f}"]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def table_of_differences(repeats: int) -> None:
    """Equal models on grouped rows: how often they are called different, and how often the gate promotes one."""
    print("\n| rows a group | called different | promoted as better (nominal .05) |\n| --- | --- | --- |")
    for size in (1, 5, 10):
        draw, different, promoted = in_groups(size), 0, 0
        for repeat in range(repeats):
            random = np.random.default_rng([2, repeat])
            one, other = draw(random, 400), draw(random, 400)
            different += compare_sides([one], [other], RIGHT, seed=repeat)["right"].sure
            decision = decide(check_against_champion(Gate(), "right", RIGHT["right"], one, [other], 0), 1)
            promoted += decision.verdict == "promoted"
        print(f"| {size} | {different / repeats:.3f} | {promoted / repeats:.3f} |", flush=True)


if __name__ == "__main__":
    repeats, resamples, part = (*sys.argv[1:], *("200", "300", "")[len(sys.argv) - 1 :])
    refuse_missing_tables()
    if not part:
        table_of_differences(int(repeats))
    table_of_coverage(int(repeats), int(resamples), part)
