"""F1 of spans, such as names in a text; a span is right if its boundaries and its type are.

Tjong Kim Sang & De Meulder (2003), "Introduction to the CoNLL-2003 Shared Task", section 2, with the rules of its
script conlleval for where a span begins and ends, so that any scheme (IOB1, IOB2, IOBES, BILOU) and invalid sequences
can be read. As in classification.py, a ratio with denominator 0 is 0, macro averages leave out a type that is in
neither the gold nor the predicted tags, and a metric is nan if no type is left or there are no rows.
"""

from collections.abc import Callable, Sequence
from math import nan
from typing import Any, Literal

import numpy as np

from pipeline_lib.evaluation.metrics.class_counts import ClassCounts, Measure, tally_of
from pipeline_lib.evaluation.predictions import Metric, RowCounts
from pipeline_lib.evaluation.totals import Totals, ratio

OUTSIDE = "O"
Scheme = Literal["iob2", "iobes", "none"]
SPAN_PREFIXES = {"B", "I", "E", "S", "L", "U", "M"}
BEGINS, ENDS = {"B", "S", "U"}, {"E", "S", "L", "U"}
"""Prefixes of a span's first and of its last token; every other prefix counts as I."""


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first token, token after the last, type) of each span of a sentence, from one tag per token.

    A token that is not O continues the previous span, unless there is none, its type differs, or the prefixes
    separate the two. A tag without a prefix is a type, and counts as inside.
    """
    result: list[tuple[int, int, str]] = []
    previous = OUTSIDE
    for position, tag in enumerate(tags):
        if tag != OUTSIDE:
            begin = (
                position if _begins_span(previous, tag) else result.pop()[0]
            )  # pop: replace the span by a longer one
            result.append((begin, position + 1, _parts(tag)[1]))
        previous = tag
    return result


def _begins_span(previous: str, tag: str) -> bool:
    """Whether a tag begins a new span after the previous tag."""
    prefix, kind = _parts(tag)
    previous_prefix, previous_kind = _parts(previous)
    return previous == OUTSIDE or kind != previous_kind or prefix in BEGINS or previous_prefix in ENDS


def _parts(tag: str) -> tuple[str, str]:
    """The prefix and the type of a tag."""
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash else ("I", tag)


def scheme_of(tags: Sequence[str]) -> Scheme:
    """Infer the scheme of a set of tags from their prefixes.

    Tags mark spans if all but O have a prefix of IOB (B-, I-) or of IOBES and BILOU (also E-, S-, L-, U-, M-).
    Parts of speech, numbers and plain types are not spans: two adjacent verbs are two verbs.
    """
    prefixes = {tag.partition("-")[0] if "-" in tag[1:2] else "" for tag in tags if tag != OUTSIDE}
    if not prefixes or not prefixes <= SPAN_PREFIXES:
        return "none"
    return "iob2" if prefixes <= {"B", "I"} else "iobes"


def units(tags: Sequence[str], scheme: Scheme) -> list[tuple[int, int, str]]:
    """The items to find in a sentence: its spans, or each tag but O if the tags do not mark spans."""
    if scheme != "none":
        return spans(tags)
    return [(position, position + 1, tag) for position, tag in enumerate(tags) if tag != OUTSIDE]


def types_of(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The span types of a set of tags, or the tags themselves if they do not mark spans."""
    return sorted({_parts(tag)[1] if scheme != "none" else tag for tag in tags if tag != OUTSIDE})


def span_counts(
    gold: Sequence[Sequence[str]],
    guess: Sequence[Sequence[str]],
    types: Sequence[str],
    scheme: Scheme = "iob2",
) -> dict[str, np.ndarray]:
    """Compute the row counts for the metrics in SPANS and TAGS, int64, one row for each of n sentences.

    Returns:
        - `gold`, `guess`, `hits` [n, K]: gold, predicted and correct units of each of the K types;
        - `tokens`, `right_tokens` [n]: all tokens, and those with the right tag.

    Raises:
        ValueError: If gold and guess differ in length.
        KeyError: For a type that is not in `types`.
    """
    column = {kind: index for index, kind in enumerate(types)}
    counts = {name: np.zeros((len(gold), len(types)), np.int64) for name in ClassCounts._fields}
    right = np.zeros(len(gold), np.int64)
    for row, (truth, answer) in enumerate(zip(gold, guess, strict=True)):
        right[row] = sum(one == other for one, other in zip(truth, answer, strict=True))
        expected, guessed = set(units(truth, scheme)), set(units(answer, scheme))
        for name, items in zip(ClassCounts._fields, (expected, guessed, expected & guessed), strict=True):
            for _, _, kind in items:
                counts[name][row, column[kind]] += 1
    return {**counts, "tokens": np.array([len(tags) for tags in gold], np.int64), "right_tokens": right}


def _micro(measure: Measure) -> Callable[[Totals], Any]:
    """The micro average of a measure: the spans of all types pooled."""
    return lambda totals: tally_of(totals).pooled.mean(measure)


def macro_span_f1(totals: Totals) -> Any:
    """Unweighted mean F1, in [0, 1], over the types that are present."""
    return tally_of(totals).mean("f1")


def token_accuracy(totals: Totals) -> Any:
    """Share of tokens, in [0, 1], whose tag is right, including O; nan without tokens."""
    return ratio(totals.total("right_tokens"), totals.total("tokens"), nan)


SPANS: dict[str, Metric] = {
    "span_f1": Metric(_micro("f1"), True, "balance of precision and recall over all spans together", bounds=(0, 1)),
    "span_precision": Metric(
        _micro("precision"), True, "share of predicted spans with the right boundaries and type", bounds=(0, 1)
    ),
    "span_recall": Metric(_micro("recall"), True, "share of all gold spans that are found", bounds=(0, 1)),
    "macro_span_f1": Metric(
        macro_span_f1,
        True,
        "balance of precision and recall, averaged equally over types",
        bounds=(0, 1),
        by_class=True,
    ),
    "token_accuracy": Metric(
        token_accuracy, True, "share of tokens whose tag is right, including those outside spans", bounds=(0, 1)
    ),
}


TAGS: dict[str, Metric] = {
    "token_accuracy": SPANS["token_accuracy"],
    "tag_f1": Metric(
        _micro("f1"), True, "balance of precision and recall over all tokens together, without O", bounds=(0, 1)
    ),
    "tag_precision": Metric(
        _micro("precision"), True, "share of predicted tags that are right, without O", bounds=(0, 1)
    ),
    "tag_recall": Metric(_micro("recall"), True, "share of all tags that are found, without O", bounds=(0, 1)),
    "macro_tag_f1": Metric(
        macro_span_f1,
        True,
        "balance of precision and recall, averaged equally over tags",
        bounds=(0, 1),
        by_class=True,
    ),
}
"""For tags that do not mark spans."""


def per_type(sums: RowCounts, types: Sequence[str]) -> list[dict[str, Any]]:
    """One record per type, in the order of `types` [K]: label, precision, recall, f1, support (its gold spans).

    The three measures are nan for a type in neither gold nor guess.

    Raises:
        ValueError: Unless there are K types.
    """
    return tally_of(sums).records(types)
