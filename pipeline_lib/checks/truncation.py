"""Rows that are cut because they are longer than what the model reads."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.checks.findings import SHOWN, Finding, share

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.objectives import Objective

CUT = 0.01
WITHOUT_END = 10**9


def truncated(
    splits: Mapping[str, "pyarrow.Table"], objective: "Objective", tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[Finding]:
    """Splits of which CUT or more of the rows are cut; none where the objective reads a long text in parts."""
    for name, rows in splits.items():
        cut = cut_rows(rows, objective, tokenizer)
        if len(cut) and len(cut) >= CUT * len(rows):
            problem = f"{share(len(cut), len(rows))} {name} rows are too long and cut"
            hint = f"Raise objective.{objective.limits[0]} as far as the base reads, or shorten the texts"
            examples = rows.select(["file", "line"]).take(cut[:SHOWN]).to_pylist()
            yield Finding("truncated", len(cut), len(rows), problem, hint, name, examples)


def cut_rows(rows: "pyarrow.Table", objective: "Objective", tokenizer: "PreTrainedTokenizerBase") -> np.ndarray:
    """The rows that are longer when they are encoded without a limit.

    Only those that are as long as the longest ones are encoded again: all that are cut are among them.
    """
    if not objective.limits or not len(rows):
        return np.array([], np.int64)
    columns = [name for name in ("input_ids", "target_ids", "rejected_ids") if name in rows.column_names]
    lengths = np.stack([np.diff(rows[name].combine_chunks().offsets.to_numpy()) for name in columns], axis=1)
    longest = np.flatnonzero((lengths == lengths.max(axis=0)).any(axis=1))
    free = objective.model_copy(update=dict.fromkeys(objective.limits, WITHOUT_END))
    read, tokenizer.model_max_length = tokenizer.model_max_length, WITHOUT_END
    encoded = free.encode(tokenizer, rows.take(longest).to_pylist())
    tokenizer.model_max_length = read
    whole = np.array([[len(ids) for ids in encoded[name]] for name in columns]).T
    return longest[(whole > lengths[longest]).any(axis=1)]
