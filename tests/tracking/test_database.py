"""MLflow's SQLite database: created whole or not at all, and what is said of one that cannot be used."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.tracking.client import connect_mlflow
from pipeline_lib.tracking.database import DatabaseState, database_state, migrations, prepare_database

CREATE = "import sys; from pipeline_lib.tracking.database import prepare_database; prepare_database(sys.argv[1])"


def creating(uri):
    """Another process that creates the database."""
    return subprocess.Popen([sys.executable, "-c", CREATE, uri], start_new_session=True)


def change(path, *statements):
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    path = tmp_path_factory.mktemp("ready") / "mlflow.db"
    prepare_database(f"sqlite:///{path}")
    return path


@pytest.fixture
def copy(ready, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(ready.read_bytes())
    return path


def test_a_new_database_is_ready_and_used_as_it_is(copy):
    assert database_state(copy) is DatabaseState.READY
    client = connect_mlflow(f"sqlite:///{copy}")
    run = client.create_run("0")
    prepare_database(f"sqlite:///{copy}")
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    assert [file.name for file in copy.parent.iterdir() if "new" in file.name] == []


@pytest.mark.kill
def test_kills_while_it_is_created_leave_nothing_that_stops_the_next_one(tmp_path):
    path = tmp_path / "mlflow.db"
    for delay in (0.3, 1.0, 1.6, 2.2, 2.8, 3.4):
        process = creating(f"sqlite:///{path}")
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert database_state(path) in (DatabaseState.MISSING, DatabaseState.READY)
    assert creating(f"sqlite:///{path}").wait(120) == 0
    assert database_state(path) is DatabaseState.READY


@pytest.mark.processes
def test_several_processes_create_one_database(tmp_path):
    path = tmp_path / "mlflow.db"
    processes = [creating(f"sqlite:///{path}") for _ in range(3)]
    assert [process.wait(180) for process in processes] == [0, 0, 0]
    assert database_state(path) is DatabaseState.READY


def test_a_half_created_database_is_set_aside_and_created_again(copy):
    # as a kill within MLflow's own creation leaves it
    change(copy, "DROP TABLE alembic_version", "DROP TABLE trace_info")
    assert database_state(copy) is DatabaseState.UNFINISHED
    prepare_database(f"sqlite:///{copy}")
    assert database_state(copy) is DatabaseState.READY


def test_a_database_with_runs_is_never_recreated(copy):
    connect_mlflow(f"sqlite:///{copy}").create_run("0")
    change(copy, "UPDATE alembic_version SET version_num = '7f2a7d5fae7d'")
    before = copy.read_bytes()
    with pytest.raises(RecipeError, match=f"mlflow db upgrade sqlite:///{copy}"):
        prepare_database(f"sqlite:///{copy}")
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["UPDATE alembic_version SET version_num = 'ffffffffffff'"], "newer MLflow"),
        (["DROP TABLE runs", "DROP TABLE experiments"], "another program"),
    ],
)
def test_other_databases_are_refused(copy, statements, words):
    if "another" in words:
        copy.unlink()
        statements = ["CREATE TABLE songs (name TEXT)"]
    change(copy, *statements)
    with pytest.raises(RecipeError, match=words):
        prepare_database(f"sqlite:///{copy}")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("no database at all, but a text of some length " * 40)
    with pytest.raises(RecipeError, match="cannot be read as a database"):
        prepare_database(f"sqlite:///{path}")


def test_the_versions_of_the_tables_are_known():
    assert migrations().newest in migrations().known
