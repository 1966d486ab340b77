"""How often intervals hold the truth, and how often equal models are called different. Prints the tables as Markdown.

PYTHONPATH=tests python tests/benchmarks/coverage.py [repeats] [resamples]
"""

import sys
from math import isnan

import numpy as np
from simulated_sets import (
    classified,
    coverage,
    expected,
    in_groups,
    labelled,
    measured,
    questioned,
    scored,
    tagged,
)

from pipeline_lib.evaluation.metrics.classification import MULTI_LABEL, SINGLE_LABEL
from pipeline_lib.evaluation.metrics.perplexity import LIKELIHOOD
from pipeline_lib.evaluation.metrics.question_answering import READING
from pipeline_lib.evaluation.metrics.regression import REGRESSION
from pipeline_lib.evaluation.metrics.spans import SPANS
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.statistics.bootstrap import compare
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
    "four labels a row, the rarest in 5 %": (labelled([0.5, 0.3, 0.1, 0.05], 1.3), MULTI_LABEL, (200, 1000)),
    "numbers, t(8) errors": (measured(8), REGRESSION, (50, 300)),
    "spans of three types": (tagged([0.8, 0.3, 0.05], 0.8), SPANS, (100, 300)),
    "questions, 10 % without an answer": (questioned(0.1, 0.7), READING, (100, 300)),
    "texts of a language model": (expected(), LIKELIHOOD, (100, 300)),
    "right or wrong, groups of 1": (in_groups(1), RIGHT, (400,)),
    "right or wrong, groups of 5": (in_groups(5), RIGHT, (400,)),
    "right or wrong, groups of 10": (in_groups(10), RIGHT, (400,)),
}


def table_of_coverage(repeats: int, resamples: int) -> None:
    """Every metric of every population."""
    print("| population | rows | metric | truth | coverage | truth below | mean width | sets with an interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, (population, metrics, sizes) in POPULATIONS.items():
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
            different += compare([one], [other], RIGHT, seed=repeat)["right"].sure
            decision = decide(check_against_champion(Gate(), "right", RIGHT["right"], one, [other], 0), 1)
            promoted += decision.verdict == "promoted"
        print(f"| {size} | {different / repeats:.3f} | {promoted / repeats:.3f} |", flush=True)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    repeats, resamples = (*numbers, 200, 300)[:2] if len(numbers) != 1 else (numbers[0], 300)
    table_of_differences(repeats)
    table_of_coverage(repeats, resamples)
