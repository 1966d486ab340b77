"""Where both servers keep their state: PostgreSQL or SQLite in the folder, or a PostgreSQL server of yours."""

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from deployments.up import postgres, tables
from deployments.up.data_directory import USER
from pipeline_lib.errors import RecipeError
from pipeline_lib.tracking.database import prepare_database
from pipeline_lib.util.redaction import remember, without_password

SQLITE = "sqlite"
FILES = ("prefect.db", "mlflow.db")


def in_sqlite(database: str, folder: Path) -> bool:
    """Whether the state is in SQLite files: by `--database sqlite`, or because an earlier `up` put it there.

    Without this rule a folder's schedules, runs and champions would seem to be lost.
    """
    earlier = (folder / FILES[0]).exists() and not (folder / "postgres" / "data").exists()
    return database == SQLITE or (not database and earlier)


def in_folder(database: str) -> bool:
    """Whether the state is in the folder itself, and moves with it."""
    return database in ("", SQLITE)


def unused(database: str, folder: Path) -> list[str]:
    """What else in the folder holds runs, and how to see them: `up` shows none of it where it uses this database."""
    messages = []
    if not in_sqlite(database, folder):
        found = " and ".join(name for name in FILES if (folder / name).exists())
        if found:
            messages.append(
                f"{found} here, not used: `tunesmith up --database sqlite` shows those runs; the same recipes run "
                "again are published to this state, without training"
            )
    if database and (folder / "postgres" / "data").exists():
        messages.append("postgres/ here, not used: `tunesmith up` without --database shows its runs")
    return messages


def sqlite_urls(folder: Path) -> tuple[str, str]:
    """SQLAlchemy's addresses of two files in the folder, for Prefect and MLflow; MLflow's tables are created."""
    prefect, mlflow = (folder / name for name in FILES)
    prepare_database(f"sqlite:///{mlflow}")  # Prefect creates its own in one transaction
    return f"sqlite+aiosqlite:///{prefect}", f"sqlite:///{mlflow}"


def socket_urls(directory: Path) -> tuple[str, str]:
    """Addresses of both databases in the server behind a Unix socket; databases that are not there are created."""
    query = f"?host={quote(str(directory))}&port={postgres.SETTINGS['port']}"
    return _urls(tables.Address(f"{USER}@", query), str(directory))


def server_urls(database: str) -> tuple[str, str]:
    """Addresses of both databases in the server at an address; databases that are not there are created."""
    remember(database)
    return _urls(tables.Address(_account(database)), without_password(database))


def _urls(address: tables.Address, shown: str) -> tuple[str, str]:
    tables.create_missing(address, shown)
    return tables.PREFECT.url(address), tables.MLFLOW.url(address)


def _account(database: str) -> str:
    """Account, host and port, with user and password quoted as drivers want them; both forms are understood here."""
    problem = ""
    try:
        parts = urlsplit(database)
        port = parts.port
    except ValueError:
        problem = "is not an address of a PostgreSQL server"
    else:
        if parts.scheme not in ("postgresql", "postgres") or (port is None and parts.netloc.endswith(":")):
            problem = "is not an address of a PostgreSQL server"
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
