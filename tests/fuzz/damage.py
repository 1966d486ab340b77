"""Ways to damage a file: its bytes, and the values of a JSON document. The same random numbers make the same damage."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

WRONG: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, float("inf"), float("nan"), 1e308,
    "", "text", "a" * 5_000, "\0", "\ud800", "../..", [], {}, [[]], [None], [{}], ["a", 1], {"": ""}, {"a": {"b": []}},
)  # fmt: skip
"""Values of every type, in place of any other."""
PIECES = (b"\0", b"\0" * 40, b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"\\", b"{", b"[" * 2_000, b"\t", b",")


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes with one to three damages: cut off, changed, inserted, doubled, removed."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        at = draw.randrange(len(content) + 1)
        end = min(len(content), at + draw.choice((1, 1, 4, 50)))
        kind = draw.randrange(6)
        if kind == 0:
            content = content[:at]
        elif kind == 1 and at < len(content):
            changed = bytearray(content)
            changed[at] ^= 1 << draw.randrange(8)
            content = bytes(changed)
        elif kind == 2:
            content = content[:at] + draw.choice(PIECES) + content[at:]
        elif kind == 3:
            content = content[:at] + draw.randbytes(end - at) + content[end:]
        elif kind == 4:
            content = content[:end] + content[at:end] * draw.choice((1, 3)) + content[end:]
        else:
            content = content[:at] + content[end:]
    return content


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value of a document, the document itself included."""
    yield path
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in pairs:
        yield from places(value, (*path, key))


def damaged_document(document: Any, draw: random.Random) -> tuple[str, str]:
    """A JSON text with a value replaced, removed, or swapped with another one; and what was done, in words."""
    known = list(places(document))
    path = draw.choice(known)
    kind = draw.choice(("replaced", "replaced", "replaced", "removed", "swapped"))
    if not path:
        value = draw.choice(WRONG)
        return json.dumps(value), f"all of it is {value!r:.60}"
    changed = copy.deepcopy(document)
    parent = _at(changed, path[:-1])
    if kind == "removed":
        del parent[path[-1]]
        return json.dumps(changed), f"{path} removed"
    value = draw.choice(WRONG) if kind == "replaced" else copy.deepcopy(_at(document, draw.choice(known)))
    parent[path[-1]] = value
    return json.dumps(changed), f"{path} = {value!r:.60}"


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document
