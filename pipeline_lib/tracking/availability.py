"""Check whether MLflow answers, without its client, and distinguish outages from other errors."""

import socket
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.recipe.execution import Execution, tracking_uri
from pipeline_lib.util.redaction import redact, redact_url

PATIENCE = 5.0
"""Seconds to wait for one answer."""
WAIT = 30.0
"""Seconds that a run which starts during an outage waits for MLflow."""
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def why_unreachable(uri: str) -> str | None:
    """Return why MLflow does not answer at this address, or None if it does. Denied access counts as an answer."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return _why_no_http(uri)
    if scheme in DATABASE_PORTS:
        return _why_no_connection(uri, DATABASE_PORTS[scheme])
    return None


def wait_for_mlflow(execution: Execution, seconds: float) -> None:
    """Wait until MLflow answers; raise ServiceUnavailable if it does not within the given seconds."""
    uri, end = tracking_uri(execution), time.monotonic() + seconds
    while reason := why_unreachable(uri):
        if time.monotonic() >= end:
            hint = "Start it, or set execution.when_mlflow_is_down to train"
            raise ServiceUnavailable("execution.tracking_uri", uri, f"MLflow does not answer ({reason})", hint)
        time.sleep(1)


def is_outage(error: BaseException) -> bool:
    """Return whether an error of MLflow's client is temporary, unlike status 401, 403 or 404."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import InterfaceError, OperationalError

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        page = "response body: '<" in str(error).lower()  # a proxy's HTML: MLflow itself answers in JSON
        return status >= 500 or status == 429 or (page and status not in (401, 403))
    return isinstance(error, (OSError, OperationalError, InterfaceError))


def deleted_experiment_error(name: str, experiment_id: object) -> RecipeError:
    """Return the error for a deleted experiment, whose name stays reserved and which accepts no runs."""
    restore = f"Restore it (`mlflow experiments restore --experiment-id {experiment_id}`) or name another"
    return RecipeError("execution.experiment", name, "was deleted in MLflow", restore)


def _why_no_http(uri: str) -> str | None:
    parts = urlsplit(uri)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=PATIENCE):
            return None
    except urllib.error.HTTPError as error:
        return f"{redact_url(uri)} answers {error.code}" if error.code >= 500 or error.code == 429 else None
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLError):
            return None  # MLflow's client has its own certificates and a better error message
        return str(redact(str(getattr(error, "reason", error))))


def _why_no_connection(uri: str, port: int) -> str | None:
    parts = urlsplit(uri)
    if not parts.hostname:  # a socket in the file system
        return None
    try:
        socket.create_connection((parts.hostname, parts.port or port), PATIENCE).close()
    except OSError as error:
        return str(error)
    return None
