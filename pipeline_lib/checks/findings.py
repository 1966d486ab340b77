"""What a check finds, how it is kept, and what it means for a run."""

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
"""Examples of a finding that are kept."""
NAMED = 5
"""Names that are told one by one."""


@dataclass(frozen=True)
class Finding:
    """`count` of `of` (rows, labels, parameters) are not as they should be; `name` is the field of `data.checks`."""

    name: str
    count: int
    of: int
    problem: str
    hint: str
    split: str = ""
    examples: Sequence[dict[str, Any]] = ()


def share(count: int, of: int) -> str:
    """How many, of how many, and the share, as people read it."""
    return f"{count:,} of {of:,} ({count / of:.1%})"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def write_findings(findings: Sequence[tuple[str, Finding]], folder: Path) -> None:
    """Write checks.json: findings with their level, the serious ones first."""
    ordered = sorted(findings, key=lambda each: each[0])  # "error" stands before "warn"
    told = [{"level": level, **asdict(finding), "share": finding.count / finding.of} for level, finding in ordered]
    (folder / FINDINGS).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


def read_findings(folder: Path) -> list[dict[str, Any]]:
    """What `write_findings` has written."""
    return json.loads((folder / FINDINGS).read_text(encoding="utf-8"))


def heed(folder: Path) -> None:
    """Log what was found; raise RecipeError for what the recipe calls an error, with where the rows are listed."""
    found = read_findings(folder)
    for each in found:
        if each["level"] == "warn":
            log.warning("%-11s %s. %s", "checks", each["problem"], each["hint"])
    errors = [
        RecipeError(
            f"data.checks.{each['name']}",
            each["level"],
            each["problem"],
            f"{each['hint']} (examples in {folder / FINDINGS})",
        )
        for each in found
        if each["level"] == "error"
    ]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(str(other))
        raise errors[0]
