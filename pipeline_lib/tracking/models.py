"""Models in MLflow by their addresses: which one an alias means, and its files."""

from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline_lib.errors import RecipeError, Unanswered
from pipeline_lib.masking import masked


def resolve(address: str, uri: str) -> str:
    """models:/NAME@ALIAS as models:/NAME/VERSION, which means the same bytes tomorrow; others as they are."""
    name, aliased, alias = address.removeprefix("models:/").partition("@")
    if not aliased:
        return address
    try:
        return f"models:/{name}/{MlflowClient(uri).get_model_version_by_alias(name, alias).version}"
    except MlflowException as error:
        raise _told(address, error) from error


def download(address: str, uri: str, folder: Path) -> None:
    """Write a model's `artifacts` (the trained folder, and the base where it needs one) into a folder."""
    mlflow.set_tracking_uri(uri)
    try:
        mlflow.artifacts.download_artifacts(f"{address}/artifacts", dst_path=str(folder))
    except MlflowException as error:
        raise _told(address, error) from error


def _told(address: str, error: MlflowException) -> RecipeError:
    kind = Unanswered if error.get_http_status_code() >= 500 else RecipeError
    problem = f"MLflow does not give it ({masked(str(error)).splitlines()[0][:200]})"
    return kind("model", address, problem, "Look the name and the alias up in MLflow, and see that it answers")
