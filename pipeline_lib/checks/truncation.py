"""Find rows that are truncated because they are longer than the model's input."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.checks.findings import SHOWN, Finding, format_share

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.objectives import Objective

CUT = 0.01
"""Share of truncated rows from which a split is reported."""
UNLIMITED = 10**9


def find_truncated_splits(
    splits: Mapping[str, "pyarrow.Table"], objective: "Objective", tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[Finding]:
    """Find splits with at least the share CUT of truncated rows; none if the objective reads long texts in windows."""
    for name, rows in splits.items():
        cut = truncated_rows(rows, objective, tokenizer)
        if len(cut) and len(cut) >= CUT * len(rows):
            problem = f"{format_share(len(cut), len(rows))} {name} rows are too long and truncated"
            hint = f"Raise objective.{objective.limits[0]} up to the base's limit, or shorten the texts"
            examples = rows.select(["file", "line"]).take(cut[:SHOWN]).to_pylist()
            yield Finding("truncated", len(cut), len(rows), problem, hint, name, examples)


def truncated_rows(rows: "pyarrow.Table", objective: "Objective", tokenizer: "PreTrainedTokenizerBase") -> np.ndarray:
    """Return the indices of rows that become longer when they are encoded without a limit.

    Only rows of the maximal length are encoded again, because all truncated rows are among them.
    """
    if not objective.limits or not len(rows):
        return np.array([], np.int64)
    columns = [name for name in ("input_ids", "target_ids", "rejected_ids") if name in rows.column_names]
    lengths = np.stack([np.diff(rows[name].combine_chunks().offsets.to_numpy()) for name in columns], axis=1)
    longest = np.flatnonzero((lengths == lengths.max(axis=0)).any(axis=1))
    unlimited = objective.model_copy(update=dict.fromkeys(objective.limits, UNLIMITED))
    original_limit, tokenizer.model_max_length = tokenizer.model_max_length, UNLIMITED
    encoded = unlimited.encode(tokenizer, rows.take(longest).to_pylist())
    tokenizer.model_max_length = original_limit
    whole = np.array([[len(ids) for ids in encoded[name]] for name in columns]).T
    return longest[(whole > lengths[longest]).any(axis=1)]
