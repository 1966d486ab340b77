"""Convert errors of MLflow's client to RecipeError."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.recipe.execution import Execution, tracking_uri
from pipeline_lib.store.remote import open_store
from pipeline_lib.tracking.availability import is_outage
from pipeline_lib.util.redaction import first_line


@contextmanager
def describe_refusal(field: str, value: str, hint: str) -> Iterator[None]:
    """Convert an error of MLflow's client to a RecipeError for a field, or to ServiceUnavailable if it is an outage."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        away = is_outage(error)
        problem = "MLflow does not answer" if away else "MLflow rejects the request"
        kind = ServiceUnavailable if away else RecipeError
        raise kind(field, value, f"{problem} ({first_line(error, 200)})", hint) from error


def describe_read_errors(uri: str) -> AbstractContextManager[None]:
    """Convert errors in commands that read from MLflow."""
    hint = "Check that it runs and that you have read permission, or give another address"
    return describe_refusal("--tracking-uri", uri, hint)


@contextmanager
def delivery_errors(execution: Execution, fingerprint: str) -> Iterator[None]:
    """Convert errors while publishing an artifact, which stays in the store and can be published later.

    A lock makes sure that only one process on this machine publishes an artifact at a time.
    """
    hint = "Nothing is lost: run the same command again when it answers"
    lock = open_store(execution.store).lock(f"publish-{fingerprint}", "publish     the model is being published")
    with lock, describe_refusal("execution.tracking_uri", tracking_uri(execution), hint):
        yield
