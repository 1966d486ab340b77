"""Convert labels of whole texts: from values of a source to names, and from names to targets."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline_lib.objectives.values import (
    format_value,
    is_bool,
    is_list,
    is_missing,
    is_number,
    name_of,
    parse_collection,
)

if TYPE_CHECKING:
    import numpy
    import pyarrow

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE: Final = "single_label_classification"
MULTI: Final = "multi_label_classification"
REGRESSION: Final = "regression"
WHOLE = re.compile("-?[0-9]+")
UNREADABLE_LIST = re.compile(r"\[(.*,.*|[\d.\s]+)\]", re.DOTALL)
"""A text in brackets that is not a list with quoted names, such as `[a, b]`, or NumPy's `[1 0 1]`."""
LARGEST = 1e30
"""Largest target: targets are kept in float32, and sums of their fourth powers must stay finite in float64."""
SEPARATED_NUMBER = re.compile(r"-?\d[\d.,' ]*\d")


def clean_label(value: Any, problem: Problem, separator: str, multi_hot: bool | None = None) -> str | list[str] | float:
    """Return a row's label: a name, sorted names or a number, by problem type; raises ValueError if it is invalid.

    If rows may have several labels, a row may have none: an empty list, or only white space.
    """
    if is_missing(value) or (problem != MULTI and isinstance(value, str) and not value.strip()):
        raise ValueError("no label")
    if problem == REGRESSION:
        return _number(value)
    if problem == SINGLE:
        if is_list(value):
            hint = "set objective.problem_type to multi_label_classification for several labels per row"
            raise ValueError(f"label {format_value(value)} is a list: {hint}")
        name = name_of("label", value)
        if not name:
            raise ValueError("no label")
        return name
    parts = parse_collection("label", value)
    if parts is None:
        if isinstance(value, str) and UNREADABLE_LIST.fullmatch(value.strip()):
            raise ValueError(f"label {format_value(value)} is not a list that can be read: write it as JSON")
        parts = value.split(separator) if isinstance(value, str) else [value]
    elif _is_multi_hot(parts, multi_hot):
        return [str(place) for place, is_set in enumerate(parts) if is_set]
    if any(is_number(part) and part != int(part) for part in parts):
        raise ValueError(
            f"label {format_value(value)} is a list of fractions, and a label is there or not: name the labels"
        )
    names = [name_of("label", part) for part in parts]
    return sorted({name for name in names if name})


def _is_multi_hot(parts: list[Any], multi_hot: bool | None) -> bool:
    """Return whether a list is multi-hot: a 0 or a 1 for each label.

    A list of three or more zeros and ones must be multi-hot, since a list of labels has no duplicates. A list of two is
    ambiguous and raises ValueError.
    """
    if multi_hot is False or not parts:
        return False
    hot = all(is_bool(part) or (is_number(part) and part in (0, 1)) for part in parts)
    if multi_hot and not hot:
        raise ValueError(f"label {format_value(parts)} has values other than 0 and 1, but objective.multi_hot is true")
    if multi_hot or (hot and (len(parts) > 2 or any(is_bool(part) for part in parts))):
        return True
    if hot and len(parts) == 2 and list(parts) != [0, 1]:
        problem = f"label {format_value(parts)} is ambiguous: a 0 or 1 for each label, or names of labels"
        raise ValueError(f"{problem}: set objective.multi_hot to true or false")
    return False


def _number(value: Any) -> float:
    """Return a finite number from a number or a text."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    number = math.nan
    if (isinstance(text, str) and "_" not in text) or (is_number(value) and not is_bool(value)):
        with suppress(ValueError):
            number = float(text)
    if not math.isfinite(number):
        hint = ""
        if isinstance(text, str) and SEPARATED_NUMBER.fullmatch(text.strip()):
            hint = " (write it with a decimal point and without separators between thousands)"
        raise ValueError(f"label {format_value(value)} is not a number{hint}")
    if abs(number) > LARGEST:
        raise ValueError(f"label {format_value(value)} is larger than {LARGEST:g}: give the numbers in a larger unit")
    return number


def names_in(column: "pyarrow.ChunkedArray", problem: Problem) -> list[str]:
    """Return label names in the order of their ids: by number if all are numbers, else alphabetically."""
    import pyarrow.compute as pc

    if problem == REGRESSION:
        return []
    names = pc.unique(pc.list_flatten(column) if problem == MULTI else column).to_pylist()
    return sorted(names, key=_integer_order) if all(map(WHOLE.fullmatch, names)) else sorted(names)


def are_fractions(names: Sequence[str]) -> bool:
    """Return whether all label names are numbers and some are not whole, such as 3.75, as in regression."""
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return False
    return any(math.isfinite(number) and not number.is_integer() for number in numbers)


def _integer_order(name: str) -> tuple[int, str]:
    return int(name), name


def targets_of(column: "pyarrow.ChunkedArray", labels: Sequence[str], problem: Problem) -> "numpy.ndarray":
    """[rows] int64 ids, [rows, labels] float32 zeros and ones, or [rows] float32; -1 for rows to be served."""
    import numpy as np

    if column.null_count:
        return np.full(len(column), -1)
    if problem == REGRESSION:
        return column.to_numpy().astype(np.float32)
    place = {name: index for index, name in enumerate(labels)}
    if problem == SINGLE:
        return np.array([place[name] for name in column.to_pylist()], np.int64)
    hot = np.zeros((len(column), len(labels)), np.float32)
    for row, names in enumerate(column.to_pylist()):
        hot[row, [place[name] for name in names]] = 1
    return hot
