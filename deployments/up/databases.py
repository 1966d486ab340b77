"""Where both servers keep their state: a file each in the folder, or a database each in one PostgreSQL."""

import asyncio
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pipeline_lib.errors import RecipeError
from pipeline_lib.masking import masked, remember, without_password

NAMES = ("prefect", "mlflow")
"""Databases in PostgreSQL. One each: both servers keep the version of their tables in a table of the same name."""


def urls(database: str, folder: Path) -> tuple[str, str]:
    """SQLAlchemy's addresses for Prefect and MLflow; databases that are not there are made."""
    if not database:
        return f"sqlite+aiosqlite:///{folder / 'prefect.db'}", f"sqlite:///{folder / 'mlflow.db'}"
    remember(database)
    parts = urlsplit(database)
    if parts.scheme not in ("postgresql", "postgres") or parts.path.strip("/"):
        mend = "Give PostgreSQL's address without a database: postgresql://user:password@host:5432"
        raise RecipeError("--database", without_password(database), "is no address of a PostgreSQL server", mend)
    if find_spec("psycopg2") is None:
        mend = "Install it: pip install -c constraints.txt -e '.[postgres]'"
        raise RecipeError("--database", without_password(database), "needs psycopg2", mend)
    asyncio.run(_ensure(f"postgresql://{parts.netloc}/postgres", without_password(database)))
    return f"postgresql+asyncpg://{parts.netloc}/{NAMES[0]}", f"postgresql+psycopg2://{parts.netloc}/{NAMES[1]}"


async def _ensure(url: str, shown: str) -> None:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=10)
        there = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for name in NAMES:
            if name not in there:
                await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        mend = f"See to the server and the account, or make the databases {' and '.join(NAMES)} yourself"
        raise RecipeError("--database", shown, f"does not take us ({masked(str(error))})", mend) from None
