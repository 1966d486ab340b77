"""Where both servers keep their state: PostgreSQL or SQLite in the folder, or a PostgreSQL server of yours."""

import asyncio
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from deployments.up import postgres
from pipeline_lib.errors import RecipeError
from pipeline_lib.masking import masked, remember, without_password

if TYPE_CHECKING:
    import asyncpg

NAMES = ("prefect", "mlflow")
"""Databases in PostgreSQL. One each: both servers keep the version of their tables in a table of the same name."""
SQLITE = "sqlite"
CONNECTING = 30
"""Seconds that a server has to accept a first connection: after a crash it reads its log first."""


def in_sqlite(database: str, folder: Path) -> bool:
    """Whether the state is in SQLite files: by `--database sqlite`, or because an earlier `up` put it there.

    Without this rule a folder's schedules, runs and champions would seem to be lost.
    """
    earlier = (folder / "prefect.db").exists() and not (folder / "postgres").exists()
    return database == SQLITE or (not database and earlier)


def sqlite_urls(folder: Path) -> tuple[str, str]:
    """SQLAlchemy's addresses of two files in the folder, for Prefect and MLflow."""
    return f"sqlite+aiosqlite:///{folder / 'prefect.db'}", f"sqlite:///{folder / 'mlflow.db'}"


def socket_urls(directory: Path) -> tuple[str, str]:
    """Addresses of both databases in the server behind a Unix socket; databases that are not there are made."""
    host = f"?host={quote(str(directory))}"
    asyncio.run(_ensure(f"postgresql://{postgres.USER}@/postgres{host}", str(directory)))
    return _urls(f"{postgres.USER}@", host)


def server_urls(database: str) -> tuple[str, str]:
    """Addresses of both databases in the server at an address; databases that are not there are made."""
    remember(database)
    place = _place(database)
    if find_spec("psycopg2") is None:
        hint = "Install it: pip install -c constraints.txt psycopg2-binary"
        raise RecipeError("--database", without_password(database), "needs psycopg2", hint)
    asyncio.run(_ensure(f"postgresql://{place}/postgres", without_password(database)))
    return _urls(place, "")


def _urls(place: str, query: str) -> tuple[str, str]:
    drivers = ("postgresql+asyncpg", "postgresql+psycopg2")
    prefect, mlflow = (f"{driver}://{place}/{name}{query}" for driver, name in zip(drivers, NAMES))
    return prefect, mlflow


def _place(database: str) -> str:
    """Account, host and port, with user and password quoted as drivers want them; both forms are understood here."""
    problem = ""
    try:
        parts = urlsplit(database)
        port = parts.port
    except ValueError:
        problem = "is no address of a PostgreSQL server"
    else:
        if parts.scheme not in ("postgresql", "postgres") or (port is None and parts.netloc.endswith(":")):
            problem = "is no address of a PostgreSQL server"
        elif parts.path.strip("/") or parts.query or parts.fragment:
            problem = "has something after the server"
    if problem:
        hint = (
            "Give sqlite, or PostgreSQL's address without a database: postgresql://user:password@host:5432; in the "
            "password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A and % as %25"
        )
        raise RecipeError("--database", _shown(database), problem, hint)
    account, at, host = parts.netloc.rpartition("@")
    user, colon, password = account.partition(":")
    return f"{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}{at}{host}"


def _shown(database: str) -> str:
    """An address that cannot be read may have its password anywhere: what is behind the scheme is hidden."""
    scheme, separator, rest = database.partition("://")
    return without_password(database) if "@" not in rest else f"{scheme}{separator}…{rest.rpartition('@')[2]}"


async def _ensure(url: str, shown: str) -> None:
    import asyncpg

    try:
        connection = await _connect(url)
        there = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for name in NAMES:
            if name not in there:
                await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        hint = f"Check the server and the account, or create the databases {' and '.join(NAMES)} yourself"
        raise RecipeError("--database", shown, f"does not take us ({masked(str(error))})", hint) from None


async def _connect(url: str) -> "asyncpg.Connection":
    """Connect; a server that is just starting says so, and is waited for."""
    import asyncpg

    began = time.monotonic()
    while True:
        try:
            return await asyncpg.connect(url, timeout=10)
        except asyncpg.CannotConnectNowError:
            if time.monotonic() - began > CONNECTING:
                raise
            await asyncio.sleep(0.2)
