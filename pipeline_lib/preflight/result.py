"""The result of a check, and running checks in parallel."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.redaction import redact

LIMIT = 10.0
"""Seconds that all checks together may take; some drivers would retry for minutes."""
Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """The result of a check and how to fix the problem."""

    name: str
    status: Status
    found: str
    """The finding, as one sentence."""
    hint: str = ""
    """How to fix the problem, if there is one."""
    error: RecipeError | None = None
    """The error that a run raises if the check failed."""


class ConcurrentCheck(NamedTuple):
    """A check that can run in parallel with others."""

    name: str
    run: Callable[[], Sequence[CheckResult]]
    too_slow: Callable[[], CheckResult]
    """The result if it takes longer than `LIMIT`."""


def passed_check(name: str, found: str) -> CheckResult:
    """Return the result of a passed check."""
    return CheckResult(name, "ok", str(redact(found)))


def check_warning(name: str, found: str, hint: str = "") -> CheckResult:
    """Return a warning: a run may work without this, or may fail."""
    return CheckResult(name, "warning", str(redact(found)), str(redact(hint)))


def failed_check(name: str, error: RecipeError) -> CheckResult:
    """Return the result of a failed check; a run would stop with this error."""
    value = "" if error.value is None else f" = {error.value!r}"
    return CheckResult(name, "failed", f"{error.field}{value}: {error.problem}", error.hint, error)


def run_in_parallel(checks: Sequence[ConcurrentCheck]) -> list[CheckResult]:
    """Run all checks in parallel and return their results in the order of the checks.

    The threads are daemons, so that a driver that hangs cannot keep the command from exiting.
    """
    found: dict[int, Sequence[CheckResult]] = {}
    threads = [threading.Thread(target=_run, args=(check, found, i), daemon=True) for i, check in enumerate(checks)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + LIMIT
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    results: list[CheckResult] = []
    for index, check in enumerate(checks):
        results += found.get(index) or [check.too_slow()]
    return results


def _run(check: ConcurrentCheck, found: dict[int, Sequence[CheckResult]], index: int) -> None:
    try:
        found[index] = check.run()
    except RecipeError as error:
        found[index] = [failed_check(check.name, error)]
    except Exception as error:  # drivers raise all kinds of errors; a broken check must not stop a working run
        found[index] = [check_warning(check.name, f"Could not be checked ({type(error).__name__}: {error}).")]
