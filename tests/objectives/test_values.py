"""What a value of a row means: texts, words, names of labels, and what has no meaning.

pytest tests/objectives/test_values.py
"""

from decimal import Decimal

import numpy as np
import pytest

from pipeline_lib.objectives.labels import MULTI, REGRESSION, SINGLE, are_fractions, clean_label
from pipeline_lib.objectives.values import text_of, to_key

PART = {"type": "text", "text": "hi"}


@pytest.mark.parametrize(
    "value, text",
    [
        ("a ", "a "),
        (5, "5"),
        (5.0, "5.0"),
        (Decimal("1.50"), "1.50"),
        (b"caf\xc3\xa9", "café"),
        (PART, "hi"),
        ([PART, PART], "hi hi"),
        (["a", "b"], "a b"),
        (np.array(["a", "b"], object), "a b"),
    ],
)
def test_texts(value, text):
    assert text_of("text", value) == text


@pytest.mark.parametrize(
    "value, reason",
    [
        (None, "empty text"),
        (float("nan"), "empty text"),
        (" \t", "empty text"),
        (True, "text is true or false, not text"),
        ({"a": 1}, "text is an object, not text"),
        ({"type": "image_url", "text": "x"}, "text is an object, not text"),
        ([["a"]], "text is a list, not text"),
        ([1, 2], "text is a list of numbers, not text"),
        (b"\xff", r"not valid UTF-8 \(byte 0xff\)"),
    ],
)
def test_what_is_no_text(value, reason):
    with pytest.raises(ValueError, match=reason):
        text_of("text", value)


@pytest.mark.parametrize(
    "value, name", [(1, "1"), (1.0, "1"), ("1.0", "1.0"), (1.5, "1.5"), (True, "True"), (" x ", "x"), (b"x", "x")]
)
def test_names(value, name):
    assert clean_label(value, SINGLE, ",") == name


@pytest.mark.parametrize("value", ["", "  ", None, float("nan")])
@pytest.mark.parametrize("problem", [SINGLE, REGRESSION])
def test_blank_labels_are_none(value, problem):
    with pytest.raises(ValueError, match="no label"):
        clean_label(value, problem, ",")


@pytest.mark.parametrize(
    "value, names",
    [
        ("b,a", ["a", "b"]),
        ("", []),
        (" ", []),
        ([], []),
        (["b", "a", "a"], ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[sic]", ["[sic]"]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ({"b", "a"}, ["a", "b"]),
        ("(other),b", ["(other)", "b"]),
        ("{a: 1}", ["{a: 1}"]),
        ([3, 5], ["3", "5"]),
        ([0, 1], ["0", "1"]),
        ([1, 0, 1], ["0", "2"]),
        ([0.0, 0.0, 0.0], []),
        ([False, True], ["1"]),
        ("[1, 0, 1]", ["0", "2"]),
    ],
)
def test_several_labels(value, names):
    assert clean_label(value, MULTI, ",") == names


def test_two_zeros_and_ones_are_asked_for():
    for value in ([1, 0], [0, 0], [1, 1]):
        with pytest.raises(ValueError, match="objective.multi_hot"):
            clean_label(value, MULTI, ",")
    assert clean_label([0, 1], MULTI, ",", True) == ["1"]
    assert clean_label([1, 0], MULTI, ",", False) == ["0", "1"]
    with pytest.raises(ValueError, match="values other than 0 and 1"):
        clean_label([0, 2], MULTI, ",", True)


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], "['a' 'b']", "[a, b]", "[1 0 1]", "[1. 0.]"])
def test_what_is_no_label(value):
    with pytest.raises(ValueError, match="label"):
        clean_label(value, MULTI, ",")


def test_a_list_is_no_single_label():
    with pytest.raises(ValueError, match="multi_label_classification"):
        clean_label(["a"], SINGLE, ",")


@pytest.mark.parametrize("value", ["1,000", "1.234,5", "0,5", "1 000", "1'000", b"1,000"])
def test_numbers_with_separators_are_refused_with_how_to_write_them(value):
    with pytest.raises(ValueError, match="not a number .*decimal point"):
        clean_label(value, REGRESSION, ",")


@pytest.mark.parametrize("value", ["1_000", "5%", "inf", "nan", "1e400", True, [1.0], b"\xff"])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match="is not a number$"):
        clean_label(value, REGRESSION, ",")


def test_numbers_whose_squares_overflow_are_refused():
    assert clean_label(-1e30, REGRESSION, ",") == -1e30
    for value in (1e300, "-1e31"):
        with pytest.raises(ValueError, match=r"larger than 1e\+30"):
            clean_label(value, REGRESSION, ",")


def test_fractions_are_distinguished_from_classes():
    assert are_fractions(["3.75", "2"]) and not are_fractions(["1", "2.0"]) and not are_fractions(["1.5", "v2"])


def test_rows_are_distinguished_alike_in_all_kinds_of_files():
    assert [to_key(value) for value in (1, 1.0, "1", True, None, " ", [1])] == ["1", "1", "1", "True", "", "", "[1]"]


def test_invisible_characters_around_a_name():
    for value in ("\ufeffyes", "yes\u200b", "\u00a0yes ", " \u200b yes\u3000"):
        assert clean_label(value, "single_label_classification", ",") == "yes"
    with pytest.raises(ValueError, match="no label"):
        clean_label("\ufeff", "single_label_classification", ",")


def test_fractions_name_no_labels():
    with pytest.raises(ValueError, match="list of fractions"):
        clean_label([0.2, 0.5, 0.3], "multi_label_classification", ",")
