"""The result of a check, and how checks run side by side."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.redaction import redact

LIMIT = 10.0
"""Seconds that all checks together may take. Some drivers wait and retry for minutes by themselves."""
Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """What a check found, and what to do about it."""

    name: str
    status: Status
    found: str
    """One sentence."""
    hint: str = ""
    """What to do, where something is wrong."""
    error: RecipeError | None = None
    """What a run raises, where the check failed."""


class Check(NamedTuple):
    """A check that can run beside others."""

    name: str
    run: Callable[[], Sequence[CheckResult]]
    too_slow: Callable[[], CheckResult]
    """The result where it takes longer than `LIMIT`."""


def ok(name: str, found: str) -> CheckResult:
    """All is well."""
    return CheckResult(name, "ok", str(redact(found)))


def warning(name: str, found: str, hint: str = "") -> CheckResult:
    """A run can do without it, or may fail."""
    return CheckResult(name, "warning", str(redact(found)), str(redact(hint)))


def failed(name: str, error: RecipeError) -> CheckResult:
    """A run would fail with this error."""
    value = "" if error.value is None else f" = {error.value!r}"
    return CheckResult(name, "failed", f"{error.field}{value}: {error.problem}", error.hint, error)


def run_side_by_side(checks: Sequence[Check]) -> list[CheckResult]:
    """Run all checks at once; their results in the order of the checks.

    Threads are daemons: a driver that hangs must keep no command from ending.
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


def _run(check: Check, found: dict[int, Sequence[CheckResult]], index: int) -> None:
    try:
        found[index] = check.run()
    except RecipeError as error:
        found[index] = [failed(check.name, error)]
    except Exception as error:  # whatever an exotic driver raises: a check that breaks must not stop a run that works
        found[index] = [warning(check.name, f"Could not be checked ({type(error).__name__}: {error}).")]
