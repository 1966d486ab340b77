"""Spans by conlleval's rules, whole and broken tag sequences, and their metrics by hand.

Run: python -m pytest tests/evaluation/metrics/test_spans.py
"""

from math import isnan

import numpy as np
import pytest

from pipeline_lib.evaluation.metrics.spans import SPANS, TAGS, per_type, scheme_of, span_counts, spans, types_of
from pipeline_lib.evaluation.predictions import RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import bootstrap

pytestmark = pytest.mark.filterwarnings("error")

TYPES = ["city", "person", "river"]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("", []),
        ("O O", []),
        ("B-x I-x O", [(0, 2, "x")]),
        ("B-x B-x", [(0, 1, "x"), (1, 2, "x")]),
        ("B-x I-x B-x I-x", [(0, 2, "x"), (2, 4, "x")]),
        ("I-x I-x O I-x", [(0, 2, "x"), (3, 4, "x")]),  # IOB1
        ("I-x B-x I-x", [(0, 1, "x"), (1, 3, "x")]),  # IOB1: B only divides
        ("B-x I-y", [(0, 1, "x"), (1, 2, "y")]),  # broken: the type changes inside
        ("O E-x", [(1, 2, "x")]),  # broken: an end without a beginning
        ("E-x E-x", [(0, 1, "x"), (1, 2, "x")]),
        ("B-x E-x I-x", [(0, 2, "x"), (2, 3, "x")]),
        ("S-x I-x E-x", [(0, 1, "x"), (1, 3, "x")]),
        ("B-x I-x E-x S-y S-y", [(0, 3, "x"), (3, 4, "y"), (4, 5, "y")]),  # IOBES
        ("B-x L-x U-y I-y", [(0, 2, "x"), (2, 3, "y"), (3, 4, "y")]),  # BILOU
        ("B-x M-x E-x", [(0, 3, "x")]),
        ("x x O y x", [(0, 2, "x"), (3, 4, "y"), (4, 5, "x")]),  # types alone
        ("B-x x", [(0, 2, "x")]),
        ("B-a-b I-a-b I-a-c", [(0, 2, "a-b"), (2, 3, "a-c")]),  # the first dash divides
    ],
)
def test_where_spans_begin_and_end(tags, found):
    assert spans(tags.split()) == found


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "IOBES", "BILOU"])
def test_spans_come_back_from_their_tags(scheme):
    random = np.random.default_rng(0)
    for _ in range(200):
        cuts = np.unique(random.integers(0, 13, size=8))
        pieces = zip(cuts[:-1].tolist(), cuts[1:].tolist())
        true = [(begin, end, str(random.choice(TYPES))) for begin, end in pieces if random.random() < 0.7]
        assert spans(_tagged(true, scheme)) == true


def _tagged(true, scheme):
    first, last, single = {"IOB1": "III", "IOB2": "BIB", "IOBES": "BES", "BILOU": "BLU"}[scheme]
    tags = ["O"] * 12
    for begin, end, kind in true:
        prefixes = [first, *"I" * (end - begin - 2), last] if end - begin > 1 else [single]
        if scheme == "IOB1" and begin and tags[begin - 1].endswith(kind):
            prefixes[0] = "B"
        tags[begin:end] = [f"{prefix}-{kind}" for prefix in prefixes]
    return tags


def _sums(gold, guess, types=TYPES):
    return RowCounts(span_counts([row.split() for row in gold], [row.split() for row in guess], types))


GOLD = ["B-person I-person O O B-city", "B-city O B-person"]
GUESS = ["B-person I-person O O O", "B-person O B-person"]


def test_counts_by_hand():
    counts = _sums(GOLD, GUESS).counts
    assert counts["gold"].tolist() == [[1, 1, 0], [1, 1, 0]]
    assert counts["guess"].tolist() == [[0, 1, 0], [0, 2, 0]]
    assert counts["hits"].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert counts["tokens"].tolist() == [5, 3] and counts["right_tokens"].tolist() == [4, 2]
    assert {values.dtype for values in counts.values()} == {np.dtype(np.int64)}


def test_metrics_by_hand():
    value = {name: metric.function(_sums(GOLD, GUESS)) for name, metric in SPANS.items()}
    assert value["span_precision"] == pytest.approx(2 / 3)  # 3 guessed, 2 of them right
    assert value["span_recall"] == pytest.approx(2 / 4)
    assert value["span_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert value["macro_span_f1"] == pytest.approx((0 + 2 * 2 / (3 + 2)) / 2)  # no river anywhere
    assert value["token_accuracy"] == pytest.approx(6 / 8)


def test_both_ends_and_the_type_must_be_right():
    assert SPANS["span_f1"].function(_sums(["B-city I-city"], ["B-city O"])) == 0
    assert SPANS["span_f1"].function(_sums(["B-city I-city"], ["B-river I-river"])) == 0
    assert SPANS["span_f1"].function(_sums(["B-city I-city"], ["I-city E-city"])) == 1  # another scheme
    assert SPANS["token_accuracy"].function(_sums(["B-city I-city"], ["B-city O"])) == 0.5


def test_per_type():
    records = per_type(_sums(GOLD, GUESS), TYPES)
    assert records[0] == {"label": "city", "precision": 0, "recall": 0, "f1": 0, "support": 2}
    assert records[1] == {"label": "person", "precision": pytest.approx(2 / 3), "recall": 1, "f1": 0.8, "support": 2}
    assert records[2]["support"] == 0 and all(isnan(records[2][name]) for name in ("precision", "recall", "f1"))


def test_characters_of_chinese_are_tokens():
    gold, guess = "B-city I-city O B-person I-person I-person", "B-city I-city O B-person I-person O"
    assert len("北京有张小明") == len(gold.split())
    assert SPANS["span_f1"].function(_sums([gold], [guess])) == 0.5


def test_nothing_to_find_and_no_rows():
    calm = {name: metric.function(_sums(["O O"], ["O O"])) for name, metric in SPANS.items()}
    assert calm.pop("token_accuracy") == 1 and all(map(isnan, calm.values()))
    assert all(isnan(metric.function(_sums([], []))) for metric in SPANS.values())
    assert all(isnan(metric.function(_sums([""], [""]))) for metric in SPANS.values())
    missed = {name: metric.function(_sums(["B-city"], ["O"])) for name, metric in SPANS.items()}
    assert set(missed.values()) == {0}


def test_bootstrap():
    scores = bootstrap(_sums(GOLD * 20, GUESS * 20), SPANS, resamples=200)
    assert all(score.low <= score.value <= score.high for score in scores.values())


def test_what_does_not_fit():
    with pytest.raises(ValueError):
        _sums(["O"], [])
    with pytest.raises(ValueError):
        _sums(["O O"], ["O"])
    with pytest.raises(KeyError):
        _sums(["B-lake"], ["O"])


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["B-city", "I-city", "O"], "iob2"),
        (["I-city", "O"], "iob2"),  # IOB1
        (["B-city", "I-city", "E-city", "S-city", "O"], "iobes"),
        (["B-city", "I-city", "L-city", "U-city", "O"], "iobes"),  # BILOU
        (["NN", "VB", "PRP$", "-LRB-"], "none"),
        (["NOUN", "O"], "none"),
        (["0", "1", "2"], "none"),
        (["NP-SBJ", "VP"], "none"),
        (["O"], "none"),
    ],
)
def test_a_scheme_is_seen_by_the_prefixes(tags, scheme):
    assert scheme_of(tags) == scheme


def test_parts_of_speech_are_scored_token_by_token_as_in_scikit_learn():
    from sklearn import metrics as reference

    random, tags = np.random.default_rng(0), ["ADJ", "NOUN", "VERB"]
    gold = [[tags[index] for index in random.integers(0, 3, 12)] for _ in range(40)]
    guess = [[tag if random.random() < 0.7 else "NOUN" for tag in row] for row in gold]
    sums = RowCounts(span_counts(gold, guess, types_of(tags, "none"), "none"))
    flat_gold, flat_guess = ([tag for row in rows for tag in row] for rows in (gold, guess))
    value = {name: metric.function(sums) for name, metric in TAGS.items()}
    accuracy = reference.accuracy_score(flat_gold, flat_guess)
    assert value["token_accuracy"] == value["tag_f1"] == pytest.approx(accuracy)
    assert value["macro_tag_f1"] == pytest.approx(reference.f1_score(flat_gold, flat_guess, average="macro"))
    expected = reference.precision_recall_fscore_support(flat_gold, flat_guess, labels=tags)
    records = per_type(sums, tags)
    for index, name in enumerate(("precision", "recall", "f1", "support")):
        assert [record[name] for record in records] == pytest.approx(expected[index].tolist())


def test_two_verbs_side_by_side_are_two():
    """One of four tags is wrong: 3 right of 4. As merged spans (NOUN, VERB VERB, NOUN) the pair would be lost whole."""
    counts = span_counts(
        [["NOUN", "VERB", "VERB", "NOUN"]], [["NOUN", "VERB", "NOUN", "NOUN"]], ["NOUN", "VERB"], "none"
    )
    assert SPANS["span_f1"].function(RowCounts(counts)) == 3 / 4


def test_tags_outside_do_not_count_as_found():
    counts = span_counts([["PER", "O", "O"]], [["PER", "O", "PER"]], ["PER"], "none")
    assert SPANS["span_f1"].function(RowCounts(counts)) == pytest.approx(2 * 1 / (1 + 2))
