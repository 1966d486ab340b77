"""Windows over long texts: locate answers in each window, and pick the best answer over all windows of a text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.data.examples import SplitExamples

BEST = 20
"""Starts and ends that are tried with one another."""


def windows(column: "pyarrow.ChunkedArray") -> "pyarrow.ChunkedArray":
    """Return the windows of all rows in one column."""
    import pyarrow as pa

    return pa.chunked_array([column.combine_chunks().flatten()])


def answer_span(
    begins: "numpy.ndarray", ends: "numpy.ndarray", answers: Sequence[str], starts: Sequence[int]
) -> tuple[int, int]:
    """Return the first and last token of the first answer in a window; (0, 0) if it is not completely inside."""
    import numpy as np

    inside = np.flatnonzero(begins >= 0)
    if not answers or not len(inside):
        return 0, 0
    start, end = starts[0], starts[0] + len(answers[0])
    if begins[inside[0]] > start or ends[inside[-1]] < end:
        return 0, 0
    # the first token that ends after the answer's start, and the last one that begins before its end: both may
    # extend beyond the answer
    first = np.searchsorted(ends[inside], start, side="right")
    last = np.searchsorted(begins[inside], end, side="left") - 1
    return int(inside[first]), int(inside[max(first, last)])


def truncate_texts(tokenizer: "PreTrainedTokenizerBase", questions: Sequence[str], limit: int) -> list[str]:
    """Truncate texts to at most `limit` tokens, at the end of a token."""
    out = tokenizer(
        list(questions), add_special_tokens=False, truncation=True, max_length=limit, return_offsets_mapping=True
    )
    return [
        question[: offsets[-1][1]] if offsets else question
        for question, offsets in zip(questions, out["offset_mapping"], strict=True)
    ]


def best_answers(read: "Sequence[numpy.ndarray]", split: "SplitExamples", most: int, unanswerable: bool) -> list[str]:
    """Return the best span of at most `most` tokens over all windows of each row; `read` has [tokens, 2] scores.

    If questions may be unanswerable: empty if "no answer" scores higher in every window.
    """
    from pipeline_lib.data.examples import Ragged

    begins, ends = (Ragged.from_lists(windows(split.rows[name])) for name in ("begins", "ends"))
    contexts = split.rows["context"].to_pylist()
    best: list[tuple[float, str]] = [(float("-inf"), "")] * len(contexts)
    none = [float("inf")] * len(contexts)
    owners: Any = split.encoded.rows
    for window, (row, scores) in enumerate(zip(owners, read, strict=True)):
        none[row] = min(none[row], float(scores[0].sum()))
        can_begin = begins[window] >= 0
        score, first, last = best_span(scores[1:] if not can_begin[0] else scores, most)
        if score > best[row][0]:
            begin, end = begins[window][can_begin][first], ends[window][can_begin][last]
            best[row] = score, contexts[row][begin:end]
    return [
        "" if unanswerable and nothing >= score else text for (score, text), nothing in zip(best, none, strict=True)
    ]


def best_span(scores: "numpy.ndarray", most: int) -> tuple[float, int, int]:
    """Score, first and last token of the best span of at most `most` tokens: scores [tokens, 2] of starts and ends."""
    import numpy as np

    if not len(scores):
        return float("-inf"), 0, 0
    firsts, lasts = (np.argsort(-scores[:, side], kind="stable")[:BEST] for side in (0, 1))
    total = scores[firsts, 0][:, None] + scores[lasts, 1]
    length = lasts - firsts[:, None] + 1
    total = np.where((length > 0) & (length <= most), total, -np.inf)
    first, last = np.unravel_index(total.argmax(), total.shape)
    return float(total[first, last]), int(firsts[first]), int(lasts[last])
