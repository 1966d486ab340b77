"""Create MLflow's SQLite database atomically, and check an existing one before it is opened.

MLflow creates its tables in about seventy separately committed migrations. A process killed between two of them leaves
a file that MLflow can neither use nor complete. The tables are therefore created in a temporary file, under a lock that
the kernel releases when its holder dies, and the file is renamed into place.
"""

import logging
import os
import re
import shlex
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.durable import sync
from pipeline_lib.store.integrity import describe_damage

log = logging.getLogger("tunesmith")
SQLITE = re.compile(r"sqlite(\+\w+)?:///(?P<path>[^?]+)(\?.*)?")
SIDE_FILES = ("-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite leaves beside a database that was not closed."""
PATIENCE = 120
"""Seconds that another program may take to create the tables of the same file."""
CREATED_WITH_TABLES = {"experiments": "experiment_id != 0", "workspaces": "name != 'default'"}
"""Tables that MLflow creates with a row -> a condition that is true only for rows that users added."""
COPY = "_alembic_tmp_"
"""Prefix of a table's temporary copy during a migration."""
FIELD = "execution.tracking_uri"


class DatabaseState(Enum):
    """The state of a database file relative to the installed MLflow."""

    MISSING = "does not exist yet"
    READY = "has the tables of the installed MLflow"
    UNFINISHED = "contains no runs, and its tables are incomplete"
    INTERRUPTED = "is in the middle of an interrupted upgrade"
    OLDER = "is a database of an older MLflow"
    NEWER = "is a database of a newer MLflow"
    FOREIGN = "is a SQLite database of another program"


class Migrations(NamedTuple):
    """The versions of MLflow's tables that the installed MLflow knows, and the newest of them."""

    known: frozenset[str]
    newest: str


def prepare_database(uri: str) -> None:
    """Make sure that MLflow can use the SQLite database at an address, creating it if it does not exist.

    Call this before MLflow gets the address, also before `mlflow server`. Addresses other than SQLite are ignored.

    Raises:
        RecipeError: The file is no database, belongs to another program, or it or MLflow needs an upgrade.
    """
    path = database_file(uri)
    if path is None or database_state(path) is DatabaseState.READY:
        return
    with describe_damage(path.parent, every=True, field=FIELD):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_sibling(path, "lock")):
            _wait_for_others(path)
            state = database_state(path)
            if state is DatabaseState.UNFINISHED:
                _set_aside(path)
            if state in (DatabaseState.MISSING, DatabaseState.UNFINISHED):
                _create(path)
            elif state is not DatabaseState.READY:
                raise unusable(path, state)


def database_file(uri: str) -> Path | None:
    """Return the file of a SQLite address; None for a server or an in-memory database."""
    found = SQLITE.fullmatch(uri)
    if not found or found["path"].startswith((":memory:", "file:")):
        return None
    return Path(found["path"]).absolute()


def database_state(path: Path) -> DatabaseState:
    """Determine a file's state without importing MLflow, which would take seconds.

    Raises:
        RecipeError: The file cannot be read, or is not a SQLite database.
    """
    if not path.exists() or path.stat().st_size == 0:  # SQLite creates an empty file before it writes to it
        return DatabaseState.MISSING
    try:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            return _state(database)
    except sqlite3.DatabaseError as error:
        hint = "Restore it from a backup, move it away to start a new one, or use another address"
        raise RecipeError(FIELD, f"sqlite:///{path}", f"cannot be read as a database ({error})", hint) from None


def unusable(path: Path, state: DatabaseState) -> RecipeError:
    """Return the error for an existing database that MLflow cannot use."""
    uri = f"sqlite:///{path}"
    backup, upgrade = shlex.join(["cp", str(path), f"{path}.backup"]), shlex.join(["mlflow", "db", "upgrade", uri])
    hints = {
        DatabaseState.OLDER: f"Stop what uses it, then upgrade it: {backup} && {upgrade}",
        DatabaseState.INTERRUPTED: f"Restore the backup from before the upgrade, then upgrade it again: {upgrade}",
        DatabaseState.NEWER: "Upgrade MLflow (`pip install --upgrade mlflow`), or use another address",
        DatabaseState.FOREIGN: "Name a database of MLflow, or a file that does not exist yet",
    }
    return RecipeError(FIELD, uri, state.value, hints[state])


@cache
def migrations() -> Migrations:
    """Read the installed MLflow's migrations from their files."""
    package = find_spec("mlflow")
    if package is None or package.origin is None:
        raise RecipeError(FIELD, None, "MLflow is not installed", "Install it: pip install -c constraints.txt mlflow")
    known, followed = set(), set()
    for file in Path(package.origin).parent.glob("store/db_migrations/versions/*.py"):
        text = file.read_text(encoding="utf-8")
        known.update(re.findall(r"""^revision = ["'](\w+)["']""", text, re.M))
        followed.update(re.findall(r"""^down_revision = ["'](\w+)["']""", text, re.M))
    (newest,) = known - followed
    return Migrations(frozenset(known), newest)


def _state(database: sqlite3.Connection) -> DatabaseState:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = _version(database) if "alembic_version" in tables else None
    if version == migrations().newest:
        return DatabaseState.READY
    # an upgrade copies a table, drops the original and renames the copy
    names = {name.removeprefix(COPY) for name in tables}
    ours = {"experiments", "runs"} <= names or version in migrations().known
    if version and version not in migrations().known:
        return DatabaseState.NEWER if ours else DatabaseState.FOREIGN
    if (not tables or "experiments" in names) and _holds_nothing(database, tables):  # `experiments` is created first
        return DatabaseState.UNFINISHED
    if not ours:
        return DatabaseState.FOREIGN
    return DatabaseState.INTERRUPTED if names != tables else DatabaseState.OLDER


def _version(database: sqlite3.Connection) -> str | None:
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return row and row[0]


def _holds_nothing(database: sqlite3.Connection, tables: set[str]) -> bool:
    """Return whether the tables contain only rows that MLflow writes when it creates them."""
    for table in tables - {"alembic_version", "sqlite_sequence"}:
        condition = CREATED_WITH_TABLES.get(table.removeprefix(COPY), "true")
        if database.execute(f'SELECT 1 FROM "{table}" WHERE {condition} LIMIT 1').fetchone():
            return False
    return True


def _wait_for_others(path: Path) -> None:
    """Wait while another program, such as an `mlflow server` started by hand, creates the tables of the same file."""
    began, logged = time.monotonic(), False
    while (
        path.exists()
        and database_state(path) in (DatabaseState.MISSING, DatabaseState.UNFINISHED)
        and (user := _user_of(path))
    ):
        if time.monotonic() - began > PATIENCE:
            problem = f"is open in another process ({user}), which does not complete its tables"
            raise RecipeError(FIELD, f"sqlite:///{path}", problem, "Stop that process, then run again")
        if not logged:
            log.info("%-11s %s is being created by another process (%s): waiting for it", "mlflow", path.name, user)
        logged = True
        time.sleep(0.5)


def _user_of(path: Path) -> str | None:
    """Return a description of another process that has a file open; None if this account sees none."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(file.path == str(path) for file in process.open_files()):
                return f"{process.name()}, process {process.pid}"
    return None


def _set_aside(path: Path) -> None:
    """Rename a database without runs and its side files."""
    name = f"{path.name}.unfinished-{uuid.uuid4().hex[:8]}"
    for end in ("", *SIDE_FILES):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{end}", path.with_name(f"{name}{end}"))
    log.warning(
        "%-11s %s was incomplete and had no runs: creating a new one; the old file is now %s", "mlflow", path, name
    )


def _create(path: Path) -> None:
    """Create the tables in a temporary file, and rename it."""
    aside = _sibling(path, "new")
    for end in ("", *SIDE_FILES):  # left by a killed process: the lock excludes a live one
        Path(f"{aside}{end}").unlink(missing_ok=True)
    _create_tables(aside)
    sync(aside)
    for end in SIDE_FILES:  # left by an earlier empty file: SQLite would apply them to the new one
        Path(f"{path}{end}").unlink(missing_ok=True)
    os.rename(aside, path)
    sync(path.parent)


def _create_tables(file: Path) -> None:
    """Let MLflow create its tables, without syncing each step: after a crash, the file is discarded anyway.

    MLflow's public stores call the same private function, but sync each step, or also create an experiment.
    """
    from mlflow.store.db import utils
    from sqlalchemy import event

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs each of its tables
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{file}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    try:
        utils._initialize_tables(engine)
    finally:
        engine.dispose()  # closing the last connection also removes the journal


def _sibling(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")
