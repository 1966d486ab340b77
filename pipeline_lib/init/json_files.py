"""Detect where the rows of JSON files are: in an array, under a key of an object, or one per line."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline_lib.init.delimited import LINES, Fields, has_header
from pipeline_lib.init.encoding import text_source
from pipeline_lib.init.no_data import NoData

DEPTH = 3
"""Keys within one another at which arrays are looked for."""
INVALID = object()
"""What a line that is not JSON holds."""


def json_fields(file: Path) -> Fields:
    """The fields of a source for an array of rows, SQuAD, an array under a key, or one row per line."""
    text = "".join(text_source(file).lines(file))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        if fields := _find_lines(text.split("\n")):
            return fields
        raise NoData("is neither one JSON document nor one object per line") from None
    if isinstance(document, list):
        return {"kind": "json", **_name_arrays(document)}
    if not isinstance(document, dict):
        raise NoData("is not an array of objects")
    return {"kind": "squad"} if _is_squad(document) else _find_array(document)


def json_lines_fields(file: Path, lines: Sequence[str]) -> Fields:
    """The fields of a source for a file that is named as JSON lines: it may be one document."""
    return _find_lines(lines) or json_fields(file)


def _find_lines(lines: Sequence[str]) -> Fields | None:
    """One object, or one array of values, on most lines; None if it is something else."""
    texts = (line.strip().removesuffix(",") for line in lines)
    records = list(map(_parse, islice((text for text in texts if text not in ("", "[", "]")), LINES)))
    rows = [record for record in records if isinstance(record, dict) or _is_flat_array(record)]
    if len(rows) <= len(records) / 2:
        return None
    return {"kind": "jsonl", **_name_arrays(rows)}


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return INVALID


def _is_flat_array(record: Any) -> bool:
    return isinstance(record, list) and not any(isinstance(value, dict) for value in record)


def _name_arrays(records: Sequence[Any]) -> Fields:
    """Names for rows that are arrays of values; nothing for objects. Raises NoData for other records."""
    if any(isinstance(record, dict) for record in records):
        return {}
    widths = {len(record) if isinstance(record, list) else 0 for record in records}
    if len(widths) != 1 or min(widths) < 2:
        raise NoData("is an array without objects")
    texts = [list(map(str, record)) for record in records]
    if has_header(texts[0], texts[1:]):
        raise NoData("holds arrays, of which the first one names the columns: remove it, or write objects")
    return {"names": [f"column{number}" for number in range(1, widths.pop() + 1)]}


def _is_squad(document: dict[str, Any]) -> bool:
    try:
        return "qas" in document["data"][0]["paragraphs"][0]
    except (KeyError, IndexError, TypeError):
        return False


def _find_array(document: dict[str, Any]) -> Fields:
    """The array of rows within an object, by its dotted key."""
    arrays = dict(_arrays(document, ()))
    objects = [key for key, array in arrays.items() if isinstance(array[0], dict)]
    rows = objects or [key for key, array in arrays.items() if isinstance(array[0], list)]
    if len(rows) == 1:
        names = _name_arrays(arrays[rows[0]])
        header = document.get("columns")  # as pandas writes with orient="split"
        if names and isinstance(header, list) and len(header) == len(names["names"]):
            names = {"names": list(map(str, header))}
        return {"kind": "json", "records": rows[0], **names}
    if rows:
        keys = ", ".join(rows[:5])
        raise NoData(f"is one object with rows under {keys}: save each as a file of its own")
    if len(document) > 1 and all(isinstance(value, (list, dict)) and value for value in document.values()):
        raise NoData("holds columns, not rows: write one object per row (in pandas, orient='records')")
    raise NoData("is one object without an array of objects")


def _arrays(value: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the arrays within an object that are not empty, with their dotted keys."""
    for key, inner in value.items():
        if isinstance(inner, list) and inner:
            yield ".".join((*above, key)), inner
        elif isinstance(inner, dict) and len(above) < DEPTH - 1:
            yield from _arrays(inner, (*above, key))
