"""Select example rows for the report: those with the largest errors and those with the smallest margins."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.evaluation.row_errors import RowErrors

if TYPE_CHECKING:
    import pyarrow

MOST = 20
"""Rows of each kind."""


def examples(predictions: "pyarrow.Table", errors: RowErrors) -> "pyarrow.Table":
    """Select the worst and the most doubtful rows of `predictions` [n].

    Rows without an error are never among the worst. There are no doubtful rows if margins are unknown.

    Returns:
        The selected rows, the worst or most doubtful first, with the columns `why` (worst, doubtful), `error` and
        `margin` before their own.
    """
    import pyarrow as pa

    worst = np.argsort(-errors.error, kind="stable")[:MOST]
    selected = {"worst": worst[errors.error[worst] > 0]}
    if errors.margin is not None:
        selected["doubtful"] = np.argsort(errors.margin, kind="stable")[:MOST]
    rows = np.concatenate([*selected.values()])
    margin = np.full(len(predictions), np.nan) if errors.margin is None else errors.margin
    columns = {
        "why": pa.array([why for why, indices in selected.items() for _ in indices], pa.string()),
        "error": pa.array(errors.error[rows]),
        "margin": pa.array(margin[rows], from_pandas=True),
    }
    table = predictions.take(rows)
    return pa.table(columns | {name: table[name] for name in table.column_names})
