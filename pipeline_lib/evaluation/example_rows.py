"""Which rows to look at: those answered worst, and those answered most doubtfully."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.evaluation.row_errors import RowErrors

if TYPE_CHECKING:
    import pyarrow

MOST = 20


def examples(told: "pyarrow.Table", errors: RowErrors) -> "pyarrow.Table":
    """Rows of `told` [n] with `why` (worst, doubtful), `error` and `margin` before them, the first ones first.

    Of the worst are none without an error; the doubtful are left out where no margin is known.
    """
    import pyarrow as pa

    worst = np.argsort(-errors.error, kind="stable")[:MOST]
    picked = {"worst": worst[errors.error[worst] > 0]}
    if errors.margin is not None:
        picked["doubtful"] = np.argsort(errors.margin, kind="stable")[:MOST]
    rows = np.concatenate([*picked.values()])
    margin = np.full(len(told), np.nan) if errors.margin is None else errors.margin
    columns = {
        "why": pa.array([why for why, some in picked.items() for _ in some], pa.string()),
        "error": pa.array(errors.error[rows]),
        "margin": pa.array(margin[rows], from_pandas=True),
    }
    found = told.take(rows)
    return pa.table(columns | {name: found[name] for name in found.column_names})
