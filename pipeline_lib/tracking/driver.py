"""The driver of MLflow's database."""

from pipeline_lib.errors import RecipeError
from pipeline_lib.tracking.availability import DATABASE_PORTS
from pipeline_lib.util.redaction import redact_url

FIELD = "execution.tracking_uri"
PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
    "MySQLdb": "mysqlclient",
}
"""Driver module -> the package to install, if it has a different name."""


def check_driver(uri: str) -> None:
    """Raise RecipeError where the driver of a database's address is not installed, or no such driver is known."""
    if uri.partition("://")[0].partition("+")[0] not in DATABASE_PORTS:
        return
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        module = (error.name or "").partition(".")[0] or str(error)
        problem = f"needs the database driver {module}, which is not installed"
        hint = f"Install it: pip install -c constraints.txt {PACKAGES.get(module, module)}"
        raise RecipeError(FIELD, redact_url(uri), problem, hint) from None
    except (ArgumentError, NoSuchModuleError) as error:
        hint = "Write postgresql://, mysql+pymysql:// or mssql+pyodbc://"
        raise RecipeError(FIELD, redact_url(uri), f"is not a database address ({error})", hint) from None
