"""Detect the kind of labels: one or several per row, or a number."""

import re
from collections import Counter
from typing import Any

from pipeline_lib.init.column import Column, value_kind
from pipeline_lib.init.roles import normalize_name
from pipeline_lib.objectives.values import is_list

NUMBERS = ("score", "similarity_score", "similarity", "rating", "stars", "overall", "price", "grade", "points")
"""Names of columns whose whole numbers may be amounts."""
MOST_CLASSES = 20
"""Whole numbers of more different values that do not count from 0 or 1 are amounts."""
HOT = {"0", "1", "0.0", "1.0"}
NO_LABEL = ("-", "-1", "-100", "?", "nan", "null", "none", "n/a", "na", "<na>")
"""Names that often mean that a row has no label."""
SEPARATORS = (",", ";", "|", " ")


def may_be_label(column: Column, named: bool) -> bool:
    """Whether a column may be what is to be predicted; numbers and lists only by their name."""
    if column.is_constant:
        return False
    if column.has_labels:
        return True
    return named and (column.kind in ("number", "whole", "words", "texts", "numbers") or bool(separator_of(column)))


def label_options(column: Column) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The objective's fields for such labels, and what is unsure about them."""
    if column.kind == "number":
        return _regression()
    options, hints = _class_options(column)
    if unclear := [name for name in column.values if name.casefold() in NO_LABEL]:
        hint = (
            f"The label {unclear[0]!r} is a class like any other: remove its rows if it means that there is no label."
        )
        hints = (*hints, hint)
    return options, hints


def _class_options(column: Column) -> tuple[dict[str, Any], tuple[str, ...]]:
    if column.kind == "numbers" and _is_multi_hot(column):
        return {"problem_type": "multi_label_classification", "multi_hot": True}, ()
    if column.kind in ("words", "texts", "numbers"):
        return {"problem_type": "multi_label_classification"}, _check_lengths(column)
    if separator := separator_of(column):
        example = _find_joined_value(column, separator)
        hint = f"Labels such as {example!r} are read as several labels, with {separator!r} between."
        return {"problem_type": "multi_label_classification", "label_separator": separator}, (hint,)
    if column.kind == "whole":
        return _integer_fields(column)
    return {}, ()


def _integer_fields(column: Column) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Classes or amounts."""
    if not column.is_counted or column.kinds["number"]:
        return _regression()
    names = [value for value in column.values if value_kind(value) not in ("whole", "number")]
    numbers = sorted({int(float(value)) for value in column.values if value not in names})
    counted = numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    if not counted and len(numbers) > MOST_CLASSES:
        hint = f"The {len(numbers)} integers in {column.name} are treated as amounts (regression), not as classes."
        return {"problem_type": "regression"}, (hint,)
    if names:
        return {}, (f"The column {column.name} has numbers and {names[0]!r}: each of them is treated as a class.",)
    if normalize_name(column.name) in NUMBERS or (len(numbers) > 2 and not counted):
        hint = (
            f"The integers in {column.name} are treated as classes; if they are amounts, set problem_type: regression."
        )
        return {}, (hint,)
    return {}, ()


def _regression() -> tuple[dict[str, Any], tuple[str, ...]]:
    return {"problem_type": "regression"}, ()


def _is_multi_hot(column: Column) -> bool:
    lengths = {len(value) for value in column.sample}
    return column.values.keys() <= HOT and len(lengths) == 1 and lengths.pop() > 1


def _check_lengths(column: Column) -> tuple[str, ...]:
    """Return what to check where lists of zeros and ones, one for each label, are not equally long."""
    lengths = sorted({len(value) for value in column.sample if is_list(value)} - {0, 1})
    if column.values.keys() <= HOT and len(lengths) > 1:
        given = f"{lengths[0]} to {lengths[-1]}"
        return (f"The lists of zeros and ones in {column.name} have {given} items: clean the rows if each is a label.",)
    return ()


def separator_of(column: Column) -> str | None:
    """What stands between several labels of a text; None where each text is one label."""
    if column.kind not in ("text", "whole") or not column.is_counted:  # "2" may be more frequent than "2,14"
        return None
    for separator in SEPARATORS:
        parts = Counter(part.strip() for value in column.values for part in value.split(separator) if part.strip())
        joined = [value for value in column.values if separator in value]
        # "card arrival" is one label: its words are no labels by themselves
        alone = [part for part in parts if part in column.values]
        few = len(parts) < len(column.values) or all(map(str.isdecimal, parts))
        if joined and few and len(alone) >= len(parts) / 2 and all(map(_is_name, parts)):
            return separator
    return None


def _is_name(part: str) -> bool:
    return len(part) <= 40 and bool(re.search(r"\w", part))


def _find_joined_value(column: Column, separator: str) -> str:
    return next(value for value in column.values if separator in value)
