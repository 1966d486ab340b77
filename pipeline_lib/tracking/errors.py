"""What MLflow refuses, in the user's words."""

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
    """Raise RecipeError of a field where MLflow refuses, Unanswered where it is away; `mend` says what to do then."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        away = is_outage(error)
        problem = "MLflow does not answer" if away else "MLflow refuses"
        kind = ServiceUnavailable if away else RecipeError
        raise kind(field, value, f"{problem} ({first_line(error, 200)})", hint) from error


def reading_errors(uri: str) -> AbstractContextManager[None]:
    """The same for commands that look into MLflow."""
    return describe_refusal("--tracking-uri", uri, "See that it runs and that you may read it, or give another address")


@contextmanager
def delivery_errors(execution: Execution, fingerprint: str) -> Iterator[None]:
    """The same where what is delivered stands in the store, and can be delivered later.

    Of this machine's processes one publishes an artifact at a time; the next one finds what it has published.
    """
    hint = "Nothing is lost: run the same command again when it answers"
    lock = open_store(execution.store).lock(f"publish-{fingerprint}", "publish     the model is being published")
    with lock, describe_refusal("execution.tracking_uri", tracking_uri(execution), hint):
        yield
