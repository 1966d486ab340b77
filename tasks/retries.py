"""Which failures are tried again: those that pass by themselves. A mistake in a recipe, data or code never does."""

import errno
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx

from pipeline_lib.errors import RecipeError, ServiceUnavailable

BUSY = {errno.EAGAIN, errno.EBUSY, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESTALE}
FULL_GPU = "OutOfMemoryError"
"""torch's, by name: tasks do not import it. Whoever holds the memory may be gone in a minute."""


def can_pass(task: object, run: object, state: Any) -> bool:
    """Prefect's `retry_condition_fn`: whether the fault is the network's, a server's, or that something is busy."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, RecipeError):
        return isinstance(error, ServiceUnavailable)
    return any(map(_passes, _chain(error)))


def _passes(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError, httpx.TransportError)):
        return True
    if isinstance(error, sqlite3.OperationalError):
        return "locked" in str(error)
    return (isinstance(error, OSError) and error.errno in BUSY) or type(error).__name__ == FULL_GPU


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
