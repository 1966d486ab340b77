"""Find rows with suspect labels by confident learning, for single-label classification."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.data.source_rows import add_source_files
from pipeline_lib.evaluation.predictions import Predictions
from pipeline_lib.evaluation.totals import ratio

if TYPE_CHECKING:
    import pyarrow


MOST = 100
"""Suspects to list, the most certain ones."""


class Suspects(NamedTuple):
    """Indices of the `rows` [m] with a suspect label, the most certain first, and the class `suggested` [m] each."""

    rows: np.ndarray
    suggested: np.ndarray


def suspects(gold: np.ndarray, chances: np.ndarray) -> Suspects:
    """Find suspect labels by confident learning.

    Northcutt et al. (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.1. A row is
    counted for class k if p(k) is at least the mean p(k) of all rows labelled k (equation 2); if several classes
    qualify, for the most likely of them (equation 1). A row is suspect if it is counted for another class than its
    label: the off-diagonal of the joint. Suspects are ranked by p(label) - p(suggested).

    cleanlab's `find_label_issues(filter_by="confident_learning")` leaves out rows whose label is the most likely class,
    so that it misses labels of classes that the model underrates, and does not say which class it suggests.

    Args:
        gold: [n] class index of the given labels.
        chances: [n, K] probabilities for rows that the model was not trained on.
    """
    rows = np.arange(len(gold))
    counts = np.bincount(gold, minlength=chances.shape[1])
    own = np.bincount(gold, chances[rows, gold], minlength=chances.shape[1])  # sum of p(label) by label
    threshold = ratio(own, counts, np.inf)
    confident = np.where(chances >= threshold, chances, -np.inf)
    best = confident.argmax(axis=1)
    # a row without any class above its threshold is not counted at all
    suspect = np.flatnonzero((best != gold) & np.isfinite(confident.max(axis=1, initial=-np.inf)))
    margin = chances[suspect, gold[suspect]] - chances[suspect, best[suspect]]
    order = suspect[np.argsort(margin, kind="stable")]
    return Suspects(order, best[order])


def suspect_rows(prepared: Path, held_out: Mapping[str, tuple[SplitExamples, Predictions]]) -> "pyarrow.Table":
    """List the suspects among the rows of all given splits.

    Args:
        prepared: The folder of the prepared data.
        held_out: Rows and predictions by split; the model must not have been trained on them.

    Returns:
        Split, file, line, texts and label of each suspect, the `suggested` label, and the probabilities of both.
    """
    import pyarrow as pa

    gold = np.concatenate([outcome.gold for _, outcome in held_out.values()])
    chances = np.concatenate([outcome.chances for _, outcome in held_out.values()])
    tables = [_read(prepared, name, split) for name, (split, _) in held_out.items()]
    ranked, labels = suspects(gold, chances), next(split.labels for split, _ in held_out.values())
    rows, suggested = ranked.rows[:MOST], ranked.suggested[:MOST]
    table = pa.concat_tables(tables).take(rows)
    added = {
        "suggested": pa.array([labels[index] for index in suggested], pa.string()),
        "p_label": pa.array(chances[rows, gold[rows]]),
        "p_suggested": pa.array(chances[rows, suggested]),
    }
    return pa.table({name: table[name] for name in table.column_names} | added)


def _read(prepared: Path, name: str, split: SplitExamples) -> "pyarrow.Table":
    import pyarrow as pa

    rows = add_source_files(prepared, split.rows, name).select(["file", "line", "text", "text_pair", "label"])
    return rows.add_column(0, "split", pa.array([name] * len(rows), pa.string()))
