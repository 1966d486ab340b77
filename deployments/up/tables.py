"""Prefect's and MLflow's databases in PostgreSQL, each created with all its tables or not at all.

Prefect creates its tables in more than a hundred migrations, and some of them commit halfway: `CREATE INDEX
CONCURRENTLY` works in no transaction. A kill there leaves a database that Prefect can neither use nor complete. So the
tables are created in a database of another name, and renaming it is the last step.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import asyncpg

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.redaction import redact
from pipeline_lib.util.signals import end_with_parent

CONNECTING = 30
"""Seconds that a server has to accept a first connection: after a crash it reads its log first."""
LOCK = 20_260_831
"""Number of the lock under which databases are created; PostgreSQL frees it when the connection ends."""
MLFLOW_TABLES = """
import os
from mlflow.store.db import utils
utils._initialize_tables(utils.create_sqlalchemy_engine(os.environ["MLFLOW_BACKEND_STORE_URI"]))
"""


@dataclass(frozen=True)
class Address:
    """Where a PostgreSQL server is: what stands in a URL before and after the name of a database."""

    account: str
    query: str = ""

    def url(self, database: str, driver: str = "postgresql") -> str:
        """SQLAlchemy's address of a database."""
        return f"{driver}://{self.account}/{database}{self.query}"


@dataclass(frozen=True)
class Database:
    """A server's database: its name, the driver, and the Python command and variable that create its tables."""

    name: str
    driver: str
    command: tuple[str, ...]
    variable: str

    def url(self, address: Address, suffix: str = "") -> str:
        """SQLAlchemy's address of this database."""
        return address.url(self.name + suffix, self.driver)


UPGRADE = ("-m", "prefect", "server", "database", "upgrade", "--yes")
PREFECT = Database("prefect", "postgresql+asyncpg", UPGRADE, "PREFECT_API_DATABASE_CONNECTION_URL")
MLFLOW = Database("mlflow", "postgresql+psycopg2", ("-c", MLFLOW_TABLES), "MLFLOW_BACKEND_STORE_URI")
UNFINISHED = "_unfinished"


def create_missing(address: Address, shown: str) -> None:
    """Create missing databases; raises RecipeError, which names the address as `shown`."""
    try:
        with asyncio.Runner() as runner:
            connection = runner.run(_connect(address.url("postgres")))
            try:
                runner.run(connection.execute(f"SELECT pg_advisory_lock({LOCK})"))
                for database in (PREFECT, MLFLOW):
                    query = "SELECT 1 FROM pg_database WHERE datname = $1"
                    if not runner.run(connection.fetchval(query, database.name)):
                        _create(database, address, lambda statement: runner.run(connection.execute(statement)))
            finally:
                runner.run(connection.close())
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        hint = f"Check the server and the account, or create the databases {PREFECT.name} and {MLFLOW.name} yourself"
        raise RecipeError("--database", shown, f"cannot be used ({redact(str(error))})", hint) from None


def _create(database: Database, address: Address, execute: Callable[[str], object]) -> None:
    unfinished = database.name + UNFINISHED
    execute(f'DROP DATABASE IF EXISTS "{unfinished}" WITH (FORCE)')  # of an `up` that was killed here
    execute(f'CREATE DATABASE "{unfinished}"')
    done = subprocess.run(
        [sys.executable, *database.command],
        env={**os.environ, database.variable: database.url(address, UNFINISHED)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(end_with_parent, signal.SIGKILL),
    )
    if done.returncode:
        said = redact("\n".join((done.stdout + done.stderr).strip().splitlines()[-5:]))
        hint = f"Fix the cause and start again: {said}"
        raise RecipeError("--database", database.name, "its tables cannot be created", hint)
    execute(f'ALTER DATABASE "{unfinished}" RENAME TO "{database.name}"')


async def _connect(url: str) -> asyncpg.Connection:
    """Connect, waiting for a server that is still starting."""
    began = time.monotonic()
    while True:
        try:
            return await asyncpg.connect(url, timeout=10)
        except asyncpg.CannotConnectNowError:
            if time.monotonic() - began > CONNECTING:
                raise
            await asyncio.sleep(0.2)
