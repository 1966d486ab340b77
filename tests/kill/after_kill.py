"""What a folder tells about runs in it: what a killed one was doing, and what is wrong after the next one."""

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

READY = 2
"""MLflow's status of a logged model that is whole."""


def phase_of(folder: Path) -> str:
    """What the run that went furthest was doing when it was killed, by the files that it left."""
    store, home = folder / "artifacts", folder / ".prefect"
    if list(store.glob("receipts/*.json")):
        return "9 after the receipt"
    models = _rows(folder / "mlflow.db", "SELECT status FROM logged_models")
    if models:
        return "7 logging the model" if models != [(READY,)] else "8 telling MLflow the rest, before the receipt"
    if list(store.glob("steps/evaluate/*")):
        return "6 telling MLflow of training and scores"
    making = [step for note in store.glob("partial/*.json") if (step := _step(note))]
    if "evaluate" in making or list(store.glob("steps/finetune/*")):
        return "5 evaluating"
    if "finetune" in making:
        return "4 training"
    if making or list(store.glob("steps/*/*")):
        return "3 making data, start and checks"
    if (home / "prefect.db").exists():
        return "2 starting Prefect's server"
    if (folder / ".mlflow.db.new").exists():
        return "1 creating MLflow's database"
    if (folder / "mlflow.db").exists():
        return "2 between MLflow's database and the first artifact"
    return "0 importing and checking the recipe"


def wrong(folder: Path) -> str | None:
    """What MLflow does not hold as after an undisturbed run."""
    database = folder / "mlflow.db"
    statuses = _rows(database, "SELECT status, lifecycle_stage FROM runs")
    models = _rows(database, "SELECT status FROM logged_models")
    twice = _rows(database, "SELECT key, step, count(*) FROM metrics GROUP BY run_uuid, key, step HAVING count(*) > 1")
    if statuses != [("FINISHED", "active")] * 3 or models != [(READY,)] or twice:
        return f"runs {statuses}, logged models {models}, logged more than once: {twice[:5]}"
    if len(list(folder.glob("artifacts/receipts/*.json"))) != 1:
        return "there is no receipt"
    if left := [str(path.relative_to(folder)) for path in folder.glob("artifacts/work/*")]:
        return f"left over: {left}"
    return None


def said(folder: Path, most: int = 400) -> str:
    """The end of what the commands printed."""
    file = folder / "said"
    if not file.exists():  # killed before it said anything
        return ""
    return " ".join(file.read_text(encoding="utf-8", errors="replace").split())[-most:]


def _rows(database: Path, question: str) -> list[tuple[object, ...]]:
    """Rows of MLflow's database, read without a change to it; none where it is not there yet."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()
    return []


def _step(note: Path) -> str:
    with suppress(OSError, ValueError):
        return str(json.loads(note.read_text(encoding="utf-8"))["step"])
    return ""
