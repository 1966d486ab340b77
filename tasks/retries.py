"""Which failures are retried: transient ones. An error in a recipe, in the data or in code is not."""

import errno
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx

from pipeline_lib.errors import RecipeError, ServiceUnavailable

BUSY = {errno.EAGAIN, errno.EBUSY, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESTALE}
FULL_GPU = "OutOfMemoryError"
"""torch's error, by name because tasks do not import torch. Another process may free the memory within a minute."""


def can_pass(task: object, run: object, state: Any) -> bool:
    """Return whether a failure is transient: the network, a server, or a busy resource (`retry_condition_fn`)."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, RecipeError):
        return isinstance(error, ServiceUnavailable) or type(error.__cause__).__name__ == FULL_GPU
    return any(map(_passes, _chain(error)))


def _passes(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError, httpx.TransportError)):
        return True
    if isinstance(error, sqlite3.OperationalError):
        return "locked" in str(error)
    return (isinstance(error, OSError) and error.errno in BUSY) or type(error).__name__ == FULL_GPU


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
