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
"""In a training's work folder: this note, the history's records, and what the meter measured."""


@dataclass
class RunNote:
    """A training whose final status is not in MLflow yet."""

    fingerprint: str
    server: str
    """Which MLflow it is for, without a password."""
    made_by: str
    recipe: dict[str, Any]
    circumstances: dict[str, Any]
    mark: str
    """Of the process that trains."""
    holders: list[list[str]] = field(default_factory=list)
    """Host and mark of each process that had the run: MLflow's tags name another one where somebody else took it."""
    status: str | None = None
    """How it ended; None where its process could not say."""
    pruned: str | None = None
    """Why it was ended early."""
    ended_at: int | None = None
    """When, in milliseconds."""

    @classmethod
    def from_recipe(cls, recipe: Recipe, fingerprint: str, made_by: str, circumstances: dict[str, Any]) -> "RunNote":
        """The note of a training that this process begins."""
        document = recipe.model_dump(mode="json")
        document["execution"]["tracking_uri"] = None  # it can hold a password, and whoever delivers knows it
        document["execution"]["store"] = absolute_address(recipe.execution.store)
        mark, server = own_mark(), server_name(tracking_uri(recipe.execution))
        return cls(fingerprint, server, made_by, redact(document), circumstances, mark, [[platform.node(), mark]])

    def begin(self, work: Path) -> None:
        """Write it in place of the note of an earlier process, whose run goes on."""
        earlier = read_note(work)
        self.holders = [*(earlier.holders if earlier else ()), *self.holders]
        self.write(work)

    def write(self, work: Path) -> None:
        """Write it whole or not at all."""
        write_durably(work / NOTE, seal(asdict(self)))


def read_note(work: Path) -> RunNote | None:
    """The note in a training's work folder, None where there is none or it is damaged."""
    with suppress(OSError, ValueError, TypeError):
        return RunNote(**unseal((work / NOTE).read_bytes()))
    return None


def remove_note(work: Path) -> None:
    """Forget a note that MLflow has taken."""
    (work / NOTE).unlink(missing_ok=True)


def notes(root: Path) -> Iterator[tuple[Path, RunNote]]:
    """The notes in a store, the oldest first, each with its work folder."""
    found = []
    for path in (root / "work").glob(f"*/{NOTE}"):
        with suppress(OSError):
            found.append((path.stat().st_mtime, path.parent))
    for _, work in sorted(found):
        if note := read_note(work):
            yield work, note


def server_name(uri: str) -> str:
    """An MLflow's address as it is compared: a file's whole path, a server's address without its password."""
    file = database_file(uri)
    return str(file) if file else redact_url(uri).rstrip("/")
