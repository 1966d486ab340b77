"""Rows that stand in two splits, exactly and nearly. `pytest tests/checks/test_duplicates.py`."""

import random

import pyarrow as pa
import pytest

from pipeline_lib.checks.duplicates import (
    duplicates,
    jaccard,
    near_duplicates,
    normalize_text,
    normalized_inputs,
    pair_near_duplicates,
    repeats,
)
from pipeline_lib.objectives import CausalLM, QuestionAnswering, TextClassification, TokenClassification

LEARNED = ["the soup is cold", "a fine day", "a fine day", "it rains on my new shoes every single day"]
HELD = ["a fine day", "nobody came", "it rains on my new shoes every single time"]
PLACES = pa.schema([("file", pa.string()), ("line", pa.int64())])


def splits(train, test):
    """Splits as `checks` has them, each row on a line of its own, and their texts."""
    read = {"train": train, "validation": [], "test": test}
    tables = {
        name: pa.table([[f"{name}.csv"] * len(texts), range(2, len(texts) + 2)], schema=PLACES)
        for name, texts in read.items()
    }
    return tables, read


def test_case_width_and_spaces_make_no_other_text():
    assert normalize_text("  Ａ Fine\n\tDAY ") == normalize_text("a fine day") == "a fine day"
    assert normalize_text("Straße") == normalize_text("STRASSE")
    assert normalize_text("a fine day!") != normalize_text("a fine day")


def test_rows_in_both_splits_are_reported_with_file_and_line():
    (found,) = duplicates(*splits(LEARNED, HELD))
    assert (found.name, found.split, found.count, found.of) == ("duplicates", "test", 1, 3)
    assert found.problem == "1 of 3 (33.3%) test rows also appear in the training data"
    first = {"file": "test.csv", "line": 2, "as": {"file": "train.csv", "line": 3}}
    assert [*found.examples] == [first]
    assert not [*duplicates(*splits(LEARNED, ["nobody came"]))]


def test_a_test_row_is_known_from_validation_as_well():
    read = {"train": ["one song"], "validation": ["a song", "two songs"], "test": ["two songs"]}
    tables = {name: splits(texts, [])[0]["train"] for name, texts in read.items()}
    (found,) = duplicates(tables, read)
    assert found.problem == "1 of 1 (100.0%) test rows also appear in the training or validation data"
    assert found.examples[0]["as"]["line"] == 3


def test_near_duplicates_are_reported_without_exact_ones():
    # 38 and 39 shingles of four characters; the first 35 are the same: "... every single " and one letter more
    assert jaccard(LEARNED[3], HELD[2]) == pytest.approx(35 / (38 + 39 - 35))
    (found,) = near_duplicates(*splits(LEARNED, HELD))
    assert (found.count, found.of, found.examples[0]["line"], found.examples[0]["as"]["line"]) == (1, 3, 4, 5)


def test_repeats_are_reported_if_there_are_many():
    (found,) = repeats(*splits(LEARNED, []))
    assert (found.count, found.of, found.examples[0]["as"]) == (1, 4, {"file": "train.csv", "line": 3})
    many = [f"row number {row}" for row in range(30)]
    assert not [*repeats(*splits([*many, many[0]], []))]  # 1 of 31 is less than 5 %
    (constant,) = repeats(*splits(["same"] * 10, []))
    assert constant.count == 9


def test_what_is_near_is_found_as_by_comparing_all_with_all():
    draw = random.Random(5)
    words = ["sun", "rain", "house", "mill", "train", "sister", "night", "dinner", "shoes", "song", "tea", "game"]
    learned = [" ".join(draw.choices(words, k=draw.randint(1, 25))) for _ in range(300)]
    held = []
    for text in draw.sample(learned, 80):
        changed = text.split()
        for _ in range(draw.randint(0, 3)):
            changed[draw.randrange(len(changed))] = draw.choice(words)
        held.append(" ".join(changed))
    wanted = {row for row, text in enumerate(held) if any(jaccard(text, other) >= 0.8 for other in learned)}
    found = pair_near_duplicates(learned, held)
    assert 20 < len(wanted) < 75
    assert set(found) <= wanted and len(wanted - set(found)) <= 1
    assert all(jaccard(held[row], learned[other]) >= 0.8 for row, other in found.items())


def test_short_texts_and_no_texts_are_near_to_nothing():
    assert (
        pair_near_duplicates(["abc", ""], ["abc", "abd"])
        == pair_near_duplicates([], ["abcdef"])
        == pair_near_duplicates(["abcdef"], [])
        == {}
    )
    assert pair_near_duplicates(["abc", "abcdefgh", "x"], ["ab", "abcdefgh"]) == {1: 1}


def read(objective, **columns):
    return normalized_inputs(objective, pa.table(columns))


def test_a_row_is_what_is_asked():
    pair = read(
        TextClassification(kind="text_classification"), text=["A  b", "A b"], text_pair=["c", None], label=["x", "y"]
    )
    assert pair == ["a b c", "a b"]
    assert read(TokenClassification(kind="token_classification"), tokens=[["A", "fine", "day"]]) == ["a fine day"]
    reading = QuestionAnswering(kind="question_answering")
    assert len(set(read(reading, question=["who", "when"], context=["at home", "at home"]))) == 2
    said = [[{"role": "user", "content": "Say"}, {"role": "assistant", "content": "a song"}]]
    assert read(CausalLM(kind="causal_lm"), messages=said) == ["say a song"]
