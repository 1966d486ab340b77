"""Create MLflow clients."""

import logging
import os

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # a server that is away must not hold a run for minutes
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with the password that the address may hold

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from pipeline_lib.tracking.database import prepare_database
from pipeline_lib.tracking.driver import check_driver
from pipeline_lib.util.redaction import redact_record

logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs each table that it creates
for handler in logging.getLogger("mlflow").handlers:
    handler.addFilter(redact_record)  # it shows the address of a database that does not answer
logging.getLogger("mlflow.store.db.utils").addFilter(  # a traceback of what is raised anyway, and mostly repeated
    lambda record: "SQLAlchemy database error" not in str(record.msg)
)
COLLISIONS = (
    "database is locked",
    "UNIQUE constraint failed",
    "duplicate key value",
    "Duplicate entry",
    "deadlock detected",
    "Deadlock found",
    "could not serialize access",
)
"""Database errors of concurrent writers. The failed transaction was rolled back, so the call can be repeated."""
REPEATED = (
    "get_experiment_by_name",
    "get_experiment",
    "create_experiment",
    "set_experiment_tag",
    "search_experiments",
    "get_run",
    "search_runs",
    "create_run",
    "update_run",
    "delete_run",
    "set_terminated",
    "set_tag",
    "delete_tag",
    "log_batch",
    "log_inputs",
    "log_outputs",
    "get_metric_history",
    "create_logged_model",
    "get_logged_model",
    "search_logged_models",
    "finalize_logged_model",
    "create_registered_model",
    "create_model_version",
    "search_model_versions",
    "get_model_version",
    "get_model_version_by_alias",
    "set_model_version_tag",
    "update_model_version",
    "delete_model_version",
    "set_registered_model_alias",
)
"""Client methods whose transactions can safely be repeated."""
ATTEMPTS = 10
PAUSE = 0.1
"""Most seconds before the second attempt; the longest pause doubles each time, up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 5.0


def _collides(error: BaseException) -> bool:
    """Return whether a call conflicted with one of another process."""
    if not isinstance(error, MlflowException) or error.error_code == "RESOURCE_ALREADY_EXISTS":
        return False
    return any(words in str(error) for words in COLLISIONS)


repeated = retry(
    retry=retry_if_exception(_collides),
    wait=wait_random_exponential(PAUSE, LONGEST_PAUSE),
    stop=stop_after_attempt(ATTEMPTS),
    reraise=True,
)
"""Wraps a call so that it is repeated after a random pause if it conflicts with another process."""


def connect_mlflow(uri: str) -> MlflowClient:
    """Return a client of the MLflow at an address, creating its SQLite database if necessary.

    Calls that conflict with those of another process are repeated.

    Raises:
        RecipeError: The SQLite database cannot be used, or the driver of another database is missing.
    """
    prepare_database(uri)
    check_driver(uri)
    client = MlflowClient(uri)
    for name in REPEATED:
        setattr(client, name, repeated(getattr(client, name)))
    return client
