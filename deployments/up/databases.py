"""The databases of both servers: PostgreSQL or SQLite in the folder, or an existing PostgreSQL server."""

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from deployments.up import postgres, tables
from deployments.up.data_directory import USER
from pipeline_lib.errors import RecipeError
from pipeline_lib.tracking.database import prepare_database
from pipeline_lib.util.redaction import redact_url, remember

SQLITE = "sqlite"
FILES = ("prefect.db", "mlflow.db")


def uses_sqlite(database: str, folder: Path) -> bool:
    """Return whether SQLite is used: with `--database sqlite`, or because an earlier `up` used it.

    Without the second rule, the schedules, runs and champions of such a folder would appear to be lost.
    """
    earlier = (folder / FILES[0]).exists() and not (folder / "postgres" / "data").exists()
    return database == SQLITE or (not database and earlier)


def is_in_folder(database: str) -> bool:
    """Return whether the database is in the folder itself, and moves with it."""
    return database in ("", SQLITE)


def describe_unused(database: str, folder: Path) -> list[str]:
    """Return notes about other databases in the folder whose runs this database does not show."""
    messages = []
    if not uses_sqlite(database, folder):
        found = " and ".join(name for name in FILES if (folder / name).exists())
        if found:
            messages.append(
                f"{found} in this folder, not used: `tunesmith up --database sqlite` shows those runs; running the "
                "same recipes again publishes them to this database without training"
            )
    if database and (folder / "postgres" / "data").exists():
        messages.append("postgres/ in this folder, not used: `tunesmith up` without --database shows its runs")
    return messages


def sqlite_urls(folder: Path) -> tuple[str, str]:
    """Return the SQLAlchemy URLs of Prefect's and MLflow's files in the folder, creating MLflow's tables."""
    prefect, mlflow = (folder / name for name in FILES)
    prepare_database(f"sqlite:///{mlflow}")  # Prefect creates its own in one transaction
    return f"sqlite+aiosqlite:///{prefect}", f"sqlite:///{mlflow}"


def socket_urls(directory: Path) -> tuple[str, str]:
    """Return the URLs of both databases on the server behind a Unix socket, creating missing databases."""
    query = f"?host={quote(str(directory))}&port={postgres.SETTINGS['port']}"
    return _urls(tables.Address(f"{USER}@", query), str(directory))


def server_urls(database: str) -> tuple[str, str]:
    """Return the URLs of both databases on the server at an address, creating missing databases."""
    remember(database)
    return _urls(tables.Address(_account(database)), redact_url(database))


def _urls(address: tables.Address, shown: str) -> tuple[str, str]:
    tables.create_missing(address, shown)
    return tables.PREFECT.url(address), tables.MLFLOW.url(address)


def _account(database: str) -> str:
    """Return account, host and port, with user and password quoted for drivers; accepts quoted and plain ones."""
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
            problem = "must not name a database or options"
    if problem:
        hint = (
            "Give sqlite, or PostgreSQL's address without a database: postgresql://user:password@host:5432; in the "
            "password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A and % as %25"
        )
        raise RecipeError("--database", _hide_password(database), problem, hint)
    account, at, host = parts.netloc.rpartition("@")
    user, colon, password = account.partition(":")
    return f"{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}{at}{host}"


def _hide_password(database: str) -> str:
    """Return the address with its password hidden; in an invalid one, hide everything that may be a password."""
    scheme, separator, rest = database.partition("://")
    return redact_url(database) if "@" not in rest else f"{scheme}{separator}…{rest.rpartition('@')[2]}"
