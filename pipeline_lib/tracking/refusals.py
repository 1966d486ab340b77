"""What MLflow refuses, in the user's words."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline_lib.errors import RecipeError, Unanswered
from pipeline_lib.execution import Execution, tracking_uri
from pipeline_lib.masking import first_line
from pipeline_lib.store.remote import open_store
from pipeline_lib.tracking.answering import is_outage


@contextmanager
def in_words(field: str, value: str, mend: str) -> Iterator[None]:
    """Raise RecipeError of a field where MLflow refuses, Unanswered where it is away; `mend` says what to do then."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        away = is_outage(error)
        problem = "MLflow does not answer" if away else "MLflow refuses"
        kind = Unanswered if away else RecipeError
        raise kind(field, value, f"{problem} ({first_line(error, 200)})", mend) from error


def while_reading(uri: str) -> AbstractContextManager[None]:
    """The same for commands that look into MLflow."""
    return in_words("--tracking-uri", uri, "See that it runs and that you may read it, or give another address")


@contextmanager
def while_delivering(execution: Execution, fingerprint: str) -> Iterator[None]:
    """The same where what is delivered stands in the store, and can be delivered later.

    Of this machine's processes one publishes an artifact at a time; the next one finds what it has published.
    """
    mend = "Nothing is lost: run the same command again when it answers"
    lock = open_store(execution.store).lock(f"publish-{fingerprint}", "publish     the model is being published")
    with lock, in_words("execution.tracking_uri", tracking_uri(execution), mend):
        yield
