"""Failures of the processes of a training: which are worth a restart, and which one caused the others."""

import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.training.distributed.remote_errors import rebuild_error
from pipeline_lib.util.redaction import first_line


def process_name(rank: int) -> str:
    """Return what a process is called in messages."""
    return f"training process {rank}"


class Failure(NamedTuple):
    """How a process of a training ended: with an error that it reported, or with the exit code that its agent saw."""

    who: str
    error: dict[str, Any] | None = None
    """The error as JSON (see `remote_errors.py`)."""
    recurs: bool = False
    """Whether a restart would meet the same error."""
    exit_code: int = 0

    def __str__(self) -> str:
        if self.error:
            return f"{self.who} failed ({self.error['kind']}: {first_line(Exception(self.error['message']))})"
        if self.exit_code < 0:
            return f"{self.who} was ended by {_signal_name(-self.exit_code)}"
        return f"{self.who} exited with code {self.exit_code}"

    def rebuild(self) -> Exception:
        """Return the error of the process with its own class, or a RuntimeError that says how it ended."""
        if not self.error:
            return RuntimeError(f"{self}; run again to continue from its last checkpoint")
        error = rebuild_error(self.error)
        if not isinstance(error, RecipeError):
            error.add_note(f"in {self.who}:\n{self.error['traceback']}")
        return error


def recurs(error: Exception) -> bool:
    """Return whether a restart would meet the same error.

    Lost connections and services pass; so do plain RuntimeErrors, as which torch reports lost peers and broken devices.
    """
    import torch

    if isinstance(error, RecipeError):
        return not isinstance(error, ServiceUnavailable)
    if isinstance(error, (torch.OutOfMemoryError, NotImplementedError, RecursionError)):  # RuntimeErrors too
        return True
    return not isinstance(error, (ConnectionError, TimeoutError, RuntimeError))


def first_cause(failures: Sequence[Failure]) -> Failure:
    """Return the failure that the others follow from, given all failures of an attempt in the order of their reports.

    A lost connection follows from a process that was killed, which could not report anything; other errors do not. A
    process may also have been killed by its agent, because it did not end on SIGTERM when another one had failed.
    """
    return min(failures, key=_place_in_chain)  # the first of those that are equal


def _place_in_chain(failure: Failure) -> int:
    if failure.error:
        hung = "builtins:TimeoutError" in failure.error["classes"]
        return 0 if failure.recurs or hung else 2
    if failure.exit_code == -signal.SIGTERM:
        return 4
    return 1 if failure.exit_code < 0 else 3


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
