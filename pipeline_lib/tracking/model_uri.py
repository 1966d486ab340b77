"""Resolve models:/ addresses and download models from MLflow."""

from contextlib import AbstractContextManager
from pathlib import Path

import mlflow

from pipeline_lib.errors import RecipeError
from pipeline_lib.tracking.client import connect_mlflow
from pipeline_lib.tracking.database import prepare_database
from pipeline_lib.tracking.errors import describe_refusal
from pipeline_lib.tracking.search import MODEL_ADDRESS


def artifact_location(address: str, uri: str) -> str:
    """Return the artifact location of models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS.

    The location contains the logged model's id, which is unique across MLflow servers; a name and version is not.
    """
    found = MODEL_ADDRESS.fullmatch(address)
    if not found:
        hint = "Write models:/NAME@ALIAS, models:/NAME/VERSION or models:/ID"
        raise RecipeError("model", address, "is not the address of one model", hint)
    name, version, alias = found.groups()
    with _describe_errors(address):
        client = connect_mlflow(uri)
        if alias:
            version = client.get_model_version_by_alias(name, alias).version
        if version:
            return str(client.get_model_version_download_uri(name, str(version)))
        return str(client.get_logged_model(name).artifact_location)


def download(address: str, location: str, uri: str, folder: Path) -> None:
    """Write a model's `artifacts` (the trained folder, and a pointer to the base where it needs one) into a folder."""
    prepare_database(uri)
    with _describe_errors(address):
        mlflow.artifacts.download_artifacts(f"{location}/artifacts", dst_path=str(folder), tracking_uri=uri)


def _describe_errors(address: str) -> AbstractContextManager[None]:
    return describe_refusal("model", address, "Check the name and the alias in MLflow, and that it answers")
