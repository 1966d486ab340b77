"""A note in a training's work folder with what must still be sent to MLflow, even if the process is killed.

It is written when the training starts, completed with its final status, and removed once MLflow has that status. A note
without a running training therefore means that MLflow was unreachable or the process was killed; `note_delivery.py`
delivers it.
"""

import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.durable import write_durably
from pipeline_lib.store.remote import absolute_address
from pipeline_lib.store.sealed import seal, unseal
from pipeline_lib.tracking.database import database_file
from pipeline_lib.tracking.process_marks import own_mark
from pipeline_lib.util.redaction import redact, redact_url

NOTE, RECORDS, MEASURED = "mlflow-run.json", "records.jsonl", "measured.jsonl"
"""Files in a training's work folder: this note, the records of the history, and the windows of the throughput meter."""


@dataclass
class RunNote:
    """A training whose final status is not in MLflow yet."""

    fingerprint: str
    server: str
    """Address of the MLflow that the note is for, without a password."""
    made_by: str
    recipe: dict[str, Any]
    circumstances: dict[str, Any]
    mark: str
    """Mark of the process that trains (see `process_marks.py`)."""
    holders: list[list[str]] = field(default_factory=list)
    """Host and mark of each process of the run. If MLflow's tags name another one, it has taken over the run."""
    status: str | None = None
    """Final status; None if the process was killed before it could write it."""
    pruned: str | None = None
    """Why it was ended early."""
    ended_at: int | None = None
    """Time of the end, in milliseconds since 1970."""

    @classmethod
    def from_recipe(cls, recipe: Recipe, fingerprint: str, made_by: str, circumstances: dict[str, Any]) -> "RunNote":
        """Return the note of a training that starts in this process."""
        document = recipe.model_dump(mode="json")
        document["execution"]["tracking_uri"] = (
            None  # it may contain a password; the process that delivers the note has its own address
        )
        document["execution"]["store"] = absolute_address(recipe.execution.store)
        mark, server = own_mark(), server_name(tracking_uri(recipe.execution))
        return cls(fingerprint, server, made_by, redact(document), circumstances, mark, [[platform.node(), mark]])

    def begin(self, work: Path) -> None:
        """Replace the note of an earlier process, whose run this one continues."""
        earlier = read_note(work)
        self.holders = [*(earlier.holders if earlier else ()), *self.holders]
        self.write(work)

    def write(self, work: Path) -> None:
        """Write the note atomically."""
        write_durably(work / NOTE, seal(asdict(self)))


def read_note(work: Path) -> RunNote | None:
    """Return the note in a training's work folder; None if it is missing or damaged."""
    with suppress(OSError, ValueError, TypeError):
        return RunNote(**unseal((work / NOTE).read_bytes()))
    return None


def remove_note(work: Path) -> None:
    """Remove a delivered note."""
    (work / NOTE).unlink(missing_ok=True)


def notes(root: Path) -> Iterator[tuple[Path, RunNote]]:
    """Yield the notes in a store with their work folders, oldest first."""
    found = []
    for path in (root / "work").glob(f"*/{NOTE}"):
        with suppress(OSError):
            found.append((path.stat().st_mtime, path.parent))
    for _, work in sorted(found):
        if note := read_note(work):
            yield work, note


def server_name(uri: str) -> str:
    """Normalize an MLflow address for comparison: a file's absolute path, or a server's URL without its password."""
    file = database_file(uri)
    return str(file) if file else redact_url(uri).rstrip("/")
