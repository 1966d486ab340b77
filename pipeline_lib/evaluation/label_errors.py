"""Rows whose label is suspect: confident learning, for one label a row."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.data.source_rows import with_files
from pipeline_lib.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import pyarrow


MOST = 100
"""Suspects that are listed, the surest ones."""


class Suspects(NamedTuple):
    """`rows` [m] whose label is suspect, the surest first, and the class `suggested` [m] for each."""

    rows: np.ndarray
    suggested: np.ndarray


def suspects(gold: np.ndarray, chances: np.ndarray) -> Suspects:
    """Northcutt et al. (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.1.

    gold: [n] class index, as given. chances: [n, K], of rows that the model has not learned from. A row counts for
    class k where p(k) is at least the mean p(k) of the rows that are labelled k (equation 2), for the likeliest of
    them where there are several (equation 1). Suspect are the rows that count for another class than their label:
    the joint's off-diagonal. They are ranked by p(label) - p(suggested).
    """
    rows = np.arange(len(gold))
    counts = np.bincount(gold, minlength=chances.shape[1])
    own = np.bincount(gold, chances[rows, gold], minlength=chances.shape[1])
    threshold = np.divide(own, counts, out=np.full(len(counts), np.inf), where=counts > 0)
    confident = np.where(chances >= threshold, chances, -np.inf)
    best = confident.argmax(axis=1)
    found = np.flatnonzero((best != gold) & np.isfinite(confident.max(axis=1, initial=-np.inf)))
    margin = chances[found, gold[found]] - chances[found, best[found]]
    order = found[np.argsort(margin, kind="stable")]
    return Suspects(order, best[order])


def suspect_rows(prepared: Path, known: Mapping[str, tuple[SplitExamples, Predictions]]) -> "pyarrow.Table":
    """The suspects among the rows of the splits together: split, file, line, texts and label, what is `suggested` in
    the label's place, and what the model gives to both."""
    import pyarrow as pa

    gold = np.concatenate([outcome.gold for _, outcome in known.values()])
    chances = np.concatenate([outcome.chances for _, outcome in known.values()])
    tables = [_read(prepared, name, split) for name, (split, _) in known.items()]
    found, labels = suspects(gold, chances), next(split.labels for split, _ in known.values())
    rows, suggested = found.rows[:MOST], found.suggested[:MOST]
    told = pa.concat_tables(tables).take(rows)
    more = {
        "suggested": pa.array([labels[index] for index in suggested], pa.string()),
        "p_label": pa.array(chances[rows, gold[rows]]),
        "p_suggested": pa.array(chances[rows, suggested]),
    }
    return pa.table({name: told[name] for name in told.column_names} | more)


def _read(prepared: Path, name: str, split: SplitExamples) -> "pyarrow.Table":
    import pyarrow as pa

    rows = with_files(prepared, split.rows, name).select(["file", "line", "text", "text_pair", "label"])
    return rows.add_column(0, "split", pa.array([name] * len(rows), pa.string()))
