"""Transfer errors from a training process as plain JSON and rebuild them with their original class.

Nothing is unpickled: classes are looked up by name, and only in the packages below.
"""

import builtins
import json
import sys
import traceback
from importlib import import_module
from typing import Any

from pipeline_lib.errors import RecipeError

KNOWN = {
    "accelerate",
    "botocore",
    "builtins",
    "filelock",
    "fsspec",
    "httpcore",
    "httpx",
    "huggingface_hub",
    "mlflow",
    "peft",
    "pipeline_lib",
    "pyarrow",
    "requests",
    "safetensors",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "ssl",
    "torch",
    "transformers",
    "urllib3",
}
"""Packages whose error classes are rebuilt."""
LONGEST_CHAIN = 10
"""Maximum length of a transferred chain of causes."""


def describe_error(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """Describe an error, its notes and its chain of causes as JSON."""
    described: dict[str, Any] = {
        "kind": type(error).__name__,
        "classes": [f"{kind.__module__}:{kind.__qualname__}" for kind in type(error).__mro__],
        "message": str(error),
        "args": _arguments(error),
        "notes": list(getattr(error, "__notes__", [])),
    }
    if depth == 0:
        described["traceback"] = "".join(traceback.format_exception(error))
    cause = error.__cause__ or error.__context__
    if cause is not None and depth < LONGEST_CHAIN:
        described["cause"] = describe_error(cause, depth + 1)
    return described


def rebuild_error(described: dict[str, Any]) -> Exception:
    """Rebuild an error with its own class, or with the nearest base class that can be found and constructed."""
    error = _rebuild(described)
    for note in described["notes"]:
        error.add_note(note)
    if cause := described.get("cause"):
        error.__cause__ = rebuild_error(cause)
    return error


def _arguments(error: BaseException) -> list[Any]:
    """Return the constructor's arguments as JSON; unlike `args`, `__reduce__` has the file name of an OSError."""
    reduced = error.__reduce__()
    is_constructor_call = isinstance(reduced, tuple) and reduced[0] is type(error)
    return list(json.loads(json.dumps(reduced[1] if is_constructor_call else error.args, default=str)))


def _rebuild(described: dict[str, Any]) -> Exception:
    message = described["message"]
    for distance, name in enumerate(described["classes"]):  # own class first, then its bases
        kind = _find(name)
        if kind is None or (kind in (Exception, BaseException) and distance):
            continue
        if distance == 0 or issubclass(kind, OSError):
            attempts = [described["args"], [message]]
        else:
            attempts = [[f"{described['kind']}: {message}"]]
        for arguments in attempts:
            if error := _call(kind, arguments, message):
                return error
    return RuntimeError(f"{described['kind']}: {message}")


def _find(name: str) -> type[Exception] | None:
    module, _, path = name.partition(":")
    if module.partition(".")[0] not in KNOWN:
        return None
    try:
        member: Any = builtins if module == "builtins" else sys.modules.get(module) or import_module(module)
        for part in path.split("."):
            member = getattr(member, part)
    except (ImportError, AttributeError):
        return None
    return member if isinstance(member, type) and issubclass(member, Exception) else None


def _call(kind: type[Exception], arguments: list[Any], message: str) -> Exception | None:
    """Construct an error with the same message; None if the constructor fails or builds another message."""
    try:
        error = kind(*arguments)
        same = message in str(error)
    except Exception:  # a constructor with other parameters may raise anything
        return None
    return error if same or isinstance(error, RecipeError) else None
