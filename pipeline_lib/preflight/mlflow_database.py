"""Check MLflow's database: whether it accepts connections, and the version of its tables."""

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.preflight.folders import find_existing_parent, is_writable
from pipeline_lib.preflight.mlflow_rest import Experiment
from pipeline_lib.preflight.result import CheckResult, passed_check
from pipeline_lib.tracking.availability import PATIENCE, deleted_experiment_error, why_unreachable
from pipeline_lib.tracking.database import DatabaseState, database_file, database_state, migrations, unusable
from pipeline_lib.util.redaction import redact, redact_url

if TYPE_CHECKING:
    from sqlalchemy import Connection

FIELD = "execution.tracking_uri"
NAME = "MLflow"
TIMEOUTS = {
    "psycopg2": "connect_timeout",
    "psycopg": "connect_timeout",
    "mysqldb": "connect_timeout",
    "pymysql": "connect_timeout",
    "pyodbc": "timeout",
}
"""Driver -> the name of its option for the connection timeout in seconds."""
REFUSALS = (
    "authentication failed",
    "does not exist",
    "pg_hba.conf",
    "access denied",
    "unknown database",
    "login failed",
)
"""Phrases in database errors that will not go away by waiting. Drivers raise the same exception for them as for a lost
connection, so only the text tells them apart."""
SETTLED = 1.0
"""Seconds between two looks at the tables' version; if it changed, another process is creating the tables."""
EXPERIMENT = "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments WHERE name = "


def check_server_database(uri: str, name: str) -> tuple[CheckResult, Experiment]:
    """Connect to a database server and check its tables.

    Raises:
        ServiceUnavailable: The server does not answer.
        RecipeError: Access is denied, the tables have another version, or the experiment was deleted.
    """
    import sqlalchemy

    shown = redact_url(uri)
    if reason := why_unreachable(uri):
        raise ServiceUnavailable(FIELD, uri, f"does not answer ({reason})", "Start it")
    url = sqlalchemy.make_url(uri)
    option = TIMEOUTS.get(url.get_dialect().driver or "")
    engine = sqlalchemy.create_engine(url, connect_args={option: int(PATIENCE)} if option else {})
    try:
        with engine.connect() as connection:
            return _look(connection, shown, name)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise _database_error(uri, error) from None
    finally:
        engine.dispose()


def check_sqlite(uri: str, name: str) -> tuple[CheckResult, Experiment]:
    """Check a SQLite database; a missing one is fine, since a run creates it.

    Raises:
        RecipeError: The database cannot be used or written, or the experiment was deleted.
    """
    path = database_file(uri)
    if path is None:
        return passed_check(NAME, f"{redact_url(uri)} is an in-memory database."), Experiment(None)
    if not is_writable(find_existing_parent(path)) or not is_writable(find_existing_parent(path.parent)):
        hint = "Name a file that this account can write"
        raise RecipeError(FIELD, uri, "cannot be written by this account", hint)
    state = database_state(path)
    if state in (DatabaseState.MISSING, DatabaseState.UNFINISHED):
        return passed_check(NAME, f"{path} does not exist yet; a run creates it."), Experiment(None)
    if state is not DatabaseState.READY:
        raise unusable(path, state)
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as database:
        row = database.execute(f"{EXPERIMENT} ?", (name,)).fetchone()
    return passed_check(NAME, f"{path} matches the installed MLflow."), _experiment(row, name)


def _look(connection: "Connection", shown: str, name: str) -> tuple[CheckResult, Experiment]:
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("alembic_version"):
        return passed_check(NAME, f"{shown} answers and has no tables yet; MLflow creates them."), Experiment(None)
    version = _version(connection)
    if version != migrations().newest and _is_changing(connection, version):
        return passed_check(NAME, f"{shown} answers; its tables are being created by another process."), Experiment(
            None
        )
    if version != migrations().newest:
        raise _other_version(shown, str(version))
    row = connection.execute(text(f"{EXPERIMENT} :name"), {"name": name}).fetchone()
    return passed_check(NAME, f"{shown} answers and matches the installed MLflow."), _experiment(row, name)


def _version(connection: "Connection") -> str | None:
    from sqlalchemy import text

    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    connection.rollback()  # ends the transaction, so that the next query sees other processes' commits
    return version


def _is_changing(connection: "Connection", version: str | None) -> bool:
    """Return whether another process is creating the tables now: MLflow commits each of its seventy migrations."""
    time.sleep(SETTLED)
    return version is None or _version(connection) != version


def _experiment(row: Any, name: str) -> Experiment:
    if row is None:
        return Experiment(None)
    experiment_id, location, stage = row
    if stage == "deleted":
        raise deleted_experiment_error(name, experiment_id)
    return Experiment(location)


def _other_version(shown: str, version: str) -> RecipeError:
    if version in migrations().known:
        hint = "Back it up, stop what uses it, and run `mlflow db upgrade` with its address"
        return RecipeError(FIELD, shown, "is a database of an older MLflow", hint)
    hint = "Install the MLflow version that created it, or name another database"
    return RecipeError(FIELD, shown, "is a database of a newer MLflow, or of another program", hint)


def _database_error(uri: str, error: Exception) -> RecipeError:
    message = str(redact(str(getattr(error, "orig", None) or error))).strip().splitlines()[0][:200]
    if any(words in message.lower() for words in REFUSALS):
        hint = "Check user, password, database name and permissions"
        return RecipeError(FIELD, redact_url(uri), f"denies access ({message})", hint)
    return ServiceUnavailable(FIELD, redact_url(uri), f"does not answer ({message})", "Check the server")
