"""What MLflow refuses, in the user's words."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from pipeline_lib.errors import RecipeError
from pipeline_lib.masking import masked


@contextmanager
def in_words(uri: str, mend: str) -> Iterator[None]:
    """Raise RecipeError where MLflow at `uri` refuses or does not answer; `mend` says what to do then."""
    try:
        yield
    except MlflowException as error:
        problem = f"MLflow refuses or does not answer ({masked(str(error)).splitlines()[0][:200]})"
        raise RecipeError("execution.tracking_uri", uri, problem, mend) from error
