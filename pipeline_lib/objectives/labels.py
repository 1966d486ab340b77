"""Labels of whole texts: as they stand in a source's rows, as names, and as a model's targets."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import numpy
    import pyarrow

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE: Final = "single_label_classification"
MULTI: Final = "multi_label_classification"
REGRESSION: Final = "regression"
WHOLE = re.compile("-?[0-9]+")


def cleaned(value: Any, problem: Problem, separator: str) -> str | list[str] | float:
    """A row's label in the type of its problem: a name, sorted names, or a number; raises ValueError if it is none."""
    if value is None or value == "" or value != value:
        raise ValueError("no label")
    if problem == REGRESSION:
        return _number(value)
    if problem == SINGLE:
        return _name(value)
    parts = value.split(separator) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise ValueError(f"label {value!r} is no list")
    return sorted({_name(part) for part in parts if _name(part)})


def _name(value: Any) -> str:
    """1.0 and 1 are one label: JSON, Parquet and CSV spell a whole number differently."""
    if value is None or isinstance(value, (list, tuple, dict)):
        raise ValueError(f"label {value!r} is no name")
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"label {value!r} is no number")
    return number


def names_in(column: "pyarrow.ChunkedArray", problem: Problem) -> list[str]:
    """The names in the order of their ids: by number where all are numbers, else by alphabet; none for numbers."""
    import pyarrow.compute as pc

    if problem == REGRESSION:
        return []
    names = pc.unique(pc.list_flatten(column) if problem == MULTI else column).to_pylist()
    return sorted(names, key=_whole) if all(map(WHOLE.fullmatch, names)) else sorted(names)


def are_fractions(names: Sequence[str]) -> bool:
    """Whether label names are numbers and some of them no whole ones, as 3.75: regression learns those."""
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return False
    return any(math.isfinite(number) and not number.is_integer() for number in numbers)


def _whole(name: str) -> tuple[int, str]:
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
