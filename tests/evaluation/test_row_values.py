"""Values of requests that no file format has checked. `pytest tests/evaluation`."""

import pytest

from pipeline_lib.evaluation.row_values import check_row


def nested(depth, value="a"):
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a \ud800", "a lone surrogate"),
        (["a", "\udfff"], "a lone surrogate"),
        ([{"role": "user", "content": [{"type": "text", "text": "\ud800"}]}], "a lone surrogate"),
        ({"\ud800": 1}, "a lone surrogate"),
        (nested(100_000), "more than 50 deep"),
        ({"a": {"b": nested(60)}}, "more than 50 deep"),
    ],
)
def test_what_no_text_can_be_made_of_is_the_rows_reason(value, reason):
    with pytest.raises(ValueError, match=f"text has .*{reason}"):
        check_row({"text": value})


def test_deep_enough_values_are_accepted():
    check_row({"messages": nested(40)})
