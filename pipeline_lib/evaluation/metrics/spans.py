"""F1 of spans, such as names in a text: a span is right where both of its ends and its type are.

Tjong Kim Sang & De Meulder (2003), "Introduction to the CoNLL-2003 Shared Task", section 2, with the rules of its
script conlleval for where a span begins and ends, so that any scheme (IOB1, IOB2, IOBES, BILOU) and broken sequences
can be read. As in classification.py a ratio with nothing below the line is 0, macro averages leave out a type that is
in neither the gold tags nor the guesses, and where no type is left, and where there are no rows, a metric is nan.
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
"""Prefixes of a span's first token, and of its last; every other prefix counts as I."""


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first token, token after the last, type) of each span of a sentence, from one tag a token.

    A token that is not O goes on with the span before it, unless there is none, or one of another type, or one that
    the prefixes divide from it. A tag without a prefix is a type, and counts as inside.
    """
    found: list[tuple[int, int, str]] = []
    before = OUTSIDE
    for place, tag in enumerate(tags):
        if tag != OUTSIDE:
            begin = place if _begins(before, tag) else found.pop()[0]
            found.append((begin, place + 1, _parts(tag)[1]))
        before = tag
    return found


def _begins(before: str, tag: str) -> bool:
    (prefix, kind), (prefix_before, kind_before) = _parts(tag), _parts(before)
    return before == OUTSIDE or kind != kind_before or prefix in BEGINS or prefix_before in ENDS


def _parts(tag: str) -> tuple[str, str]:
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash else ("I", tag)


def scheme_of(tags: Sequence[str]) -> Scheme:
    """Which scheme a set of tags is written in, by their prefixes.

    Tags are spans where every one but O has a prefix of IOB (B-, I-) or of IOBES and BILOU (also E-, S-, L-, U-, M-).
    Parts of speech, numbers and plain types are no spans: two verbs side by side are two verbs.
    """
    prefixes = {tag.partition("-")[0] if "-" in tag[1:2] else "" for tag in tags if tag != OUTSIDE}
    if not prefixes or not prefixes <= SPAN_PREFIXES:
        return "none"
    return "iob2" if prefixes <= {"B", "I"} else "iobes"


def units(tags: Sequence[str], scheme: Scheme) -> list[tuple[int, int, str]]:
    """What is found or missed in a sentence: its spans, or where tags are no spans every tag but O by itself."""
    if scheme != "none":
        return spans(tags)
    return [(place, place + 1, tag) for place, tag in enumerate(tags) if tag != OUTSIDE]


def types_of(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The types of spans that a set of tags can write, or the tags themselves."""
    return sorted({_parts(tag)[1] if scheme != "none" else tag for tag in tags if tag != OUTSIDE})


def span_counts(
    gold: Sequence[Sequence[str]],
    guess: Sequence[Sequence[str]],
    types: Sequence[str],
    scheme: Scheme = "iob2",
) -> dict[str, np.ndarray]:
    """What SPANS and TAGS need of n sentences' tags, int64, one row a sentence.

    - `gold`, `guess`, `hits` [n, K]: units of each of the K types that are there, that are guessed, that are both;
    - `tokens`, `right_tokens` [n]: all, and those whose tag is right.

    Raises ValueError where gold and guess differ in length, KeyError for a type that is not in `types`.
    """
    column = {kind: index for index, kind in enumerate(types)}
    counts = {name: np.zeros((len(gold), len(types)), np.int64) for name in ClassCounts._fields}
    right = np.zeros(len(gold), np.int64)
    for row, (truth, answer) in enumerate(zip(gold, guess, strict=True)):
        right[row] = sum(one == other for one, other in zip(truth, answer, strict=True))
        there, guessed = set(units(truth, scheme)), set(units(answer, scheme))
        for name, which in zip(ClassCounts._fields, (there, guessed, there & guessed), strict=True):
            for _, _, kind in which:
                counts[name][row, column[kind]] += 1
    return {**counts, "tokens": np.array([len(tags) for tags in gold], np.int64), "right_tokens": right}


def _micro(measure: Measure) -> Callable[[Totals], Any]:
    """The metric that pools the spans of all types, as if they were one."""
    return lambda totals: tally_of(totals).pooled.mean(measure)


def macro_span_f1(totals: Totals) -> Any:
    """Mean of the types' F1, in [0, 1], over the types that are there."""
    return tally_of(totals).mean("f1")


def token_accuracy(totals: Totals) -> Any:
    """Share of tokens, in [0, 1], whose tag is right, O counting like any other; nan without tokens."""
    return ratio(totals.total("right_tokens"), totals.total("tokens"), nan)


SPANS: dict[str, Metric] = {
    "span_f1": Metric(_micro("f1"), True, "balance of precision and recall over all spans together", bounds=(0, 1)),
    "span_precision": Metric(
        _micro("precision"), True, "share of spans given that are right, ends and type", bounds=(0, 1)
    ),
    "span_recall": Metric(_micro("recall"), True, "share of all gold spans that are found", bounds=(0, 1)),
    "macro_span_f1": Metric(
        macro_span_f1,
        True,
        "balance of precision and recall, each type counting the same",
        bounds=(0, 1),
        by_class=True,
    ),
    "token_accuracy": Metric(
        token_accuracy, True, "share of tokens whose tag is right, those outside included", bounds=(0, 1)
    ),
}


TAGS: dict[str, Metric] = {
    "token_accuracy": SPANS["token_accuracy"],
    "tag_f1": Metric(
        _micro("f1"), True, "balance of precision and recall over all tokens together, without O", bounds=(0, 1)
    ),
    "tag_precision": Metric(_micro("precision"), True, "share of tags given that are right, without O", bounds=(0, 1)),
    "tag_recall": Metric(_micro("recall"), True, "share of all tags that are found, without O", bounds=(0, 1)),
    "macro_tag_f1": Metric(
        macro_span_f1,
        True,
        "balance of precision and recall, each tag counting the same",
        bounds=(0, 1),
        by_class=True,
    ),
}
"""Of tags that are no spans."""


def per_type(sums: RowCounts, types: Sequence[str]) -> list[dict[str, Any]]:
    """One record a type, in the order of `types` [K]: label, precision, recall, f1, support (its gold spans).

    The three measures are nan for a type in neither gold nor guess. Raises ValueError unless there are K types.
    """
    return tally_of(sums).records(types)
