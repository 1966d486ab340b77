"""Models in MLflow by their addresses: which one an alias means, and its files."""

from contextlib import AbstractContextManager
from pathlib import Path

import mlflow

from pipeline_lib.tracking.client import connect
from pipeline_lib.tracking.database import prepare_database
from pipeline_lib.tracking.refusals import in_words


def resolve(address: str, uri: str) -> str:
    """models:/NAME@ALIAS as models:/NAME/VERSION, which means the same bytes tomorrow; others as they are."""
    name, aliased, alias = address.removeprefix("models:/").partition("@")
    if not aliased:
        return address
    with _given(address):
        return f"models:/{name}/{connect(uri).get_model_version_by_alias(name, alias).version}"


def download(address: str, uri: str, folder: Path) -> None:
    """Write a model's `artifacts` (the trained folder, and the base where it needs one) into a folder."""
    prepare_database(uri)
    mlflow.set_tracking_uri(uri)
    with _given(address):
        mlflow.artifacts.download_artifacts(f"{address}/artifacts", dst_path=str(folder))


def _given(address: str) -> AbstractContextManager[None]:
    return in_words("model", address, "Look the name and the alias up in MLflow, and see that it answers")
