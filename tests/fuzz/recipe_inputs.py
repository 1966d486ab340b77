"""Inputs for the fuzzing of recipes: every kind of value at every field, damaged files, and overrides.

The same seed makes the same inputs. `recipes.py` runs them.
"""

import copy
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    3,
    2**31,
    2**63 - 1,
    -(2**63),
    0.5,
    -0.1,
    1e-300,
    1e300,
    float("inf"),
    float("nan"),
    "",
    " ",
    "text",
    "../..",
    "/proc/1",
    "~",
    "a" * 300,
    "a" * 5_000,
    "a/" * 3_000,
    "é" * 255,
    "\u202e\u0007\u001b[31m",
    "[bold]x[/bold]",
    "%20",
    "a%20b%00c",
    "*",
    "**/*",
    "[",
    "{0.__class__}",
    "${HOME}",
    "file:///etc/passwd",
    "sqlite:////etc/passwd",
    "x:/../../etc/passwd",
    "http://[::1",
    "http://a:b@c:notaport/",
    "s3://",
    "://",
    "package:",
    "package:__main__",
    "package:builtins/x",
    "package:os/../..",
    "package:numpy/" + "a" * 5_000,
    "models:/",
    "(?P<x",
    "(a+)+$",
    [],
    {},
    [[]],
    [None],
    [{}],
    ["a", "a"],
    ["a"] * 2_000,
    [1, "a", None],
    {"kind": None},
    {"kind": "full"},
    {"kind": []},
    {"kind": {"kind": "kind"}},
    {"": ""},
    {None: 1, 2: 3, True: 4},
    {"a" * 5_000: 1},
    {f"field{number}": number for number in range(300)},
    [[[[[["deep"]]]]]],
)
"""Values of every type, and texts that mean something to some library."""
MARKS = "[]{}:,-?*&!|>'\"%@`#\t \n\0\u2028\ud7ff=<~.0123456789_eE/\\"


class Input(NamedTuple):
    """A recipe's file and the overrides that come with it."""

    name: str
    text: str
    overrides: tuple[str, ...] = ()


def paths(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value of a document, sections and lists included."""
    yield path
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from paths(value, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with another value at a path."""
    if not path:
        return value
    result = copy.deepcopy(document)
    parent = result
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return result


def wrong_values(document: Any) -> Iterator[Input]:
    """Every hostile value at every field of a document."""
    for path in paths(document):
        for number, value in enumerate(HOSTILE):
            text = yaml.safe_dump(replaced(document, path, value), allow_unicode=True)
            yield Input(f"{'.'.join(map(str, path))} = value {number}", text)


def damaged_files(document: Any, draw: random.Random) -> Iterator[Input]:
    """A document's text with a few characters removed, doubled or replaced, without end."""
    whole = yaml.safe_dump(document)
    while True:
        text = whole
        for _ in range(draw.randint(1, 4)):
            at, length = draw.randrange(len(text) + 1), draw.choice((0, 1, 1, 5, 40))
            piece = draw.choice((draw.choice(MARKS) * draw.choice((1, 1, 3, 200)), text[at : at + length] * 2, ""))
            text = text[:at] + piece + text[at + length :]
        yield Input(f"damaged: {text[:60]!r}", text)


def odd_overrides(document: Any, draw: random.Random) -> Iterator[Input]:
    """A sound document with one or two odd overrides, without end."""
    text = yaml.safe_dump(document)
    known = [".".join(map(str, path)) for path in paths(document) if path]
    while True:
        overrides = []
        for _ in range(draw.randint(1, 2)):
            path = draw.choice([*known, "x", "a.b.c", "strategies.-1", "0", ".".join("a" * draw.choice((3, 29, 500)))])
            value = draw.choice(["", "[", "{a: b", "!!int x", "&a [*a]", "'", "null", "1e5", "=", "../..", "9" * 40])
            overrides.append(draw.choice([f"{path}={value}", path, f"={value}", f"{path}.{path}={value}"]))
        yield Input(f"overrides {overrides}"[:200], text, tuple(overrides))
