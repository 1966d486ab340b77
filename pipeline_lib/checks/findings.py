"""The findings of checks: writing, reading, logging them, and stopping the run for errors."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError

log = logging.getLogger("tunesmith")
FINDINGS = "checks.json"
SHOWN = 10
"""Examples stored for each finding."""
NAMED = 5
"""Names that a message lists."""


@dataclass(frozen=True)
class Finding:
    """A problem with `count` of `of` items (rows, labels or parameters); `name` is the field of `data.checks`."""

    name: str
    count: int
    of: int
    problem: str
    hint: str
    split: str = ""
    examples: Sequence[dict[str, Any]] = ()


def format_share(count: int, of: int) -> str:
    """Format a count with its total and percentage."""
    return f"{count:,} of {of:,} ({count / of:.1%})"


def join_names(names: Sequence[str]) -> str:
    """Join the first names, followed by the number of remaining ones."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def write_findings(findings: Sequence[tuple[str, Finding]], folder: Path) -> None:
    """Write checks.json: findings with their level, errors first."""
    ordered = sorted(findings, key=lambda pair: pair[0])  # "error" sorts before "warn"
    records = [{"level": level, **asdict(finding), "share": finding.count / finding.of} for level, finding in ordered]
    (folder / FINDINGS).write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")


def read_findings(folder: Path) -> list[dict[str, Any]]:
    """Read what `write_findings` wrote."""
    return json.loads((folder / FINDINGS).read_text(encoding="utf-8"))


def report_findings(folder: Path) -> None:
    """Log warnings, and raise RecipeError for findings that the recipe treats as errors.

    The first error is raised, with all others as notes and a reference to the file that lists the rows.
    """
    findings = read_findings(folder)
    for finding in findings:
        if finding["level"] == "warn":
            log.warning("%-11s %s. %s", "checks", finding["problem"], finding["hint"])
    errors = [
        RecipeError(
            f"data.checks.{finding['name']}",
            finding["level"],
            finding["problem"],
            f"{finding['hint']} (examples in {folder / FINDINGS})",
        )
        for finding in findings
        if finding["level"] == "error"
    ]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(str(other))
        raise errors[0]
