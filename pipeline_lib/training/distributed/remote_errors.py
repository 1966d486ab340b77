"""Errors on their way out of a training process: as plain JSON, and back as the class that they had there.

Nothing is unpickled: a class is looked up by its name, in the packages below alone.
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
"""Installed packages that classes of errors are taken from."""
LONGEST_CHAIN = 10
"""Most errors of a chain of causes that are passed on."""


def describe_error(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """An error, its notes and what it was raised from, as JSON can hold them."""
    described: dict[str, Any] = {
        "kind": type(error).__name__,
        "classes": [f"{kind.__module__}:{kind.__qualname__}" for kind in type(error).__mro__],
        "message": str(error),
        "args": _arguments(error),
        "notes": list(getattr(error, "__notes__", [])),
    }
    if depth == 0:
        described["traceback"] = "".join(traceback.format_exception(error))
    before = error.__cause__ or error.__context__
    if before is not None and depth < LONGEST_CHAIN:
        described["cause"] = describe_error(before, depth + 1)
    return described


def rebuild_error(described: dict[str, Any]) -> Exception:
    """The error, in its own class, else in the nearest base class that can be found and takes its arguments."""
    error = _rebuild(described)
    for note in described["notes"]:
        error.add_note(note)
    if cause := described.get("cause"):
        error.__cause__ = rebuild_error(cause)
    return error


def _arguments(error: BaseException) -> list[Any]:
    """What the class was called with, as far as JSON can hold it; OSError has its file's name here too."""
    reduced = error.__reduce__()
    own = isinstance(reduced, tuple) and reduced[0] is type(error)
    return list(json.loads(json.dumps(reduced[1] if own else error.args, default=str)))


def _rebuild(described: dict[str, Any]) -> Exception:
    message = described["message"]
    for place, name in enumerate(described["classes"]):
        kind = _find(name)
        if kind is None or (kind in (Exception, BaseException) and place):
            continue
        if place == 0 or issubclass(kind, OSError):
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
        found: Any = builtins if module == "builtins" else sys.modules.get(module) or import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _call(kind: type[Exception], arguments: list[Any], message: str) -> Exception | None:
    """An error of this class that says the same; None where its constructor makes another one of the arguments."""
    try:
        error = kind(*arguments)
        same = message in str(error)
    except Exception:  # a constructor that wants something else may raise anything
        return None
    return error if same or isinstance(error, RecipeError) else None
