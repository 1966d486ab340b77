"""Deliver the data in a store's notes to MLflow: a training's last records and its final status."""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import Run

from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.tracking.availability import why_unreachable
from pipeline_lib.tracking.process_marks import exists, own_mark, same_kernel
from pipeline_lib.tracking.record_queue import RecordQueue
from pipeline_lib.tracking.run_note import MEASURED, RECORDS, RunNote, notes, read_note, remove_note, server_name
from pipeline_lib.tracking.runs import HOST, PROCESS, Tracker
from pipeline_lib.tracking.throughput import read_windows
from pipeline_lib.tracking.training_delivery import TrainingDelivery
from pipeline_lib.util.redaction import first_line

log = logging.getLogger("tunesmith")
MOST = 50
"""Maximum number of notes to deliver at a time; the next run handles the rest."""


def settle_notes(root: str, uri: str, made_by: str = "") -> Iterator[str]:
    """Deliver the notes in a store whose `made_by` contains the given text; yield log lines.

    Raises:
        MlflowException, SQLAlchemyError, ServiceUnavailable: MLflow stopped answering.
    """
    store = open_store(root)
    waiting = [
        (work, note) for work, note in notes(store.root) if note.server == server_name(uri) and made_by in note.made_by
    ]
    if not waiting or why_unreachable(uri):
        return
    for work, note in waiting[:MOST]:
        with skip_if_refused(uri, f"the training {note.fingerprint[:8]}"):
            if line := deliver_note(store, work, uri):
                yield line


def deliver_note(store: Store, work: Path, uri: str) -> str | None:
    """Deliver a note to MLflow unless its training is running; return a log line.

    Records are sent first, then the status, and then the note is removed. If the process is killed in between, the
    delivery is repeated, and MLflow still stores each record once.
    """
    if read_note(work) is None:
        return None
    with store.lock_if_free(work.name) as free:
        note = read_note(work) if free else None
        if note is None or note.server != server_name(uri) or not _is_over(note):
            return None
        if model_folder(store, note.fingerprint).exists():
            return None
        recipe = _recipe_with_uri(note, uri)
        tracker = Tracker(recipe, note.made_by)
        known = tracker.find_run(note.fingerprint)
        if known and _is_taken(note, known):
            remove_note(work)
            return None
        note.holders.append([platform.node(), own_mark()])
        note.status = note.status or "KILLED"
        note.ended_at = note.ended_at or _last_write_time(work)
        note.write(work)
        windows = list(read_windows(work / MEASURED))
        delivery = TrainingDelivery(tracker, note.fingerprint, note.circumstances, RecordQueue(work / RECORDS), windows)
        delivery.send()
        delivery.settle(note.status, note.pruned, note.ended_at)
        remove_note(work)
    info = delivery.run.info
    return f"{info.run_name} {info.run_id[:8]} had no final status; now {note.status}"


@contextmanager
def skip_if_refused(uri: str, what: str) -> Iterator[None]:
    """Log and skip a run that cannot be settled, so that it does not block the others forever."""
    try:
        yield
    except Exception as error:
        if why_unreachable(uri):
            raise
        log.info("%-11s %s cannot be brought up to date (%s)", "mlflow", what, first_line(error))


def model_folder(store: Store, fingerprint: str) -> Path:
    """Return the folder of a training's model. If it exists, the training is complete and only has to be published."""
    return store.root / "steps" / "finetune" / fingerprint[:16]


def _is_over(note: RunNote) -> bool:
    """Return whether the training of a note has ended, given that its lock is free.

    Within one kernel, including its containers, the free lock is proof. On a disk that machines share, locks may have
    no effect between machines.
    """
    return note.status is not None or exists(note.mark) is False or same_kernel(note.mark)


def _is_taken(note: RunNote, run: Run) -> bool:
    """Return whether another process, perhaps on another machine, continued the training and reports its end.

    A failed or killed run is not taken: it has the same records, and gets the missing ones.
    """
    holder = [run.data.tags.get(HOST), run.data.tags.get(PROCESS)]
    taken = holder not in note.holders and not (holder[0] == platform.node() and exists(holder[1] or "") is False)
    return run.info.status == "FINISHED" or (run.info.status == "RUNNING" and taken)


def _last_write_time(work: Path) -> int | None:
    """When a training wrote its last record, in milliseconds."""
    times = [file.stat().st_mtime for file in (work / RECORDS, work / MEASURED) if file.exists()]
    return int(max(times) * 1000) if times else None


def _recipe_with_uri(note: RunNote, uri: str) -> Recipe:
    recipe = check(note.recipe)
    execution = recipe.execution.model_copy(update={"tracking_uri": uri})
    return recipe.model_copy(update={"execution": execution})
