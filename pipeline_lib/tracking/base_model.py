"""Log a base model to MLflow once and share it between all adapters trained from it.

An adapter's model contains the adapter and a pointer, base.json, with the base's location and the SHA-256 of its files.
"""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import TOKENIZER, WEIGHTS, digests
from pipeline_lib.models.building import POINTER
from pipeline_lib.store.digests import value_digest
from pipeline_lib.tracking.experiment import create_experiment
from pipeline_lib.util.cache_folder import cache_folder
from pipeline_lib.util.redaction import first_line

EXPERIMENT = "tunesmith-bases"
"""The experiment that contains the logged base models."""


def keep_base(client: MlflowClient, base: Path, folder: Path) -> Path:
    """Log a base model unless this MLflow has it, and return the path of a pointer to it, written into `folder`."""
    files = digests(base, (*WEIGHTS, *TOKENIZER))
    name = f"base-{value_digest(files)[:16]}"
    found = client.search_logged_models([_experiment(client)], filter_string=f"name = '{name}'")
    logged = next((model for model in found if model.status == "READY"), None)
    if logged is None:  # a model left incomplete by a killed process is written again
        logged = next(iter(found), None) or client.create_logged_model(_experiment(client), name, model_type="base")
        client.log_model_artifacts(logged.model_id, str(base))
        client.finalize_logged_model(logged.model_id, "READY")
    document = {"model": f"models:/{logged.model_id}", "location": logged.artifact_location, "files": files}
    pointer = folder / POINTER
    pointer.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return pointer


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(EXPERIMENT) or create_experiment(client, EXPERIMENT)
    return str(found.experiment_id)


def file_digests(pointer: Path) -> dict[str, str]:
    """Return file name -> SHA-256 for the files of the base."""
    return dict(json.loads(pointer.read_text(encoding="utf-8"))["files"])


def fetch_served_base(pointer: Path, uri: str | None = None) -> Path:
    """Return the folder of the base that a pointer names: MLflow's own if it is on this machine, else a download.

    Args:
        pointer: The path of a base.json.
        uri: The address of the MLflow that serves the artifacts; empty: the one that this process uses.

    Raises:
        RecipeError: The base cannot be fetched, or is not what the pointer says.
    """
    document = json.loads(pointer.read_text(encoding="utf-8"))
    here = _local_path(document["location"])
    folder = here if here and here.is_dir() else _download_base(document, uri)
    if digests(folder, (*WEIGHTS, *TOKENIZER)) != document["files"]:
        problem = f"needs its base model, but {folder} contains a different one"
        raise RecipeError("model", document["model"], problem, "Remove that folder, and publish the model again")
    return folder


def _local_path(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        return Path(url2pathname(parts.path))
    return None


def _download_base(document: dict[str, Any], uri: str | None) -> Path:
    """Download the base into this user's cache; a partial download never becomes visible."""
    cache = cache_folder() / "bases"
    folder = cache / value_digest(document["files"])[:16]
    if folder.is_dir():
        return folder
    aside = cache / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    aside.mkdir(parents=True)
    try:
        got = Path(download_artifacts(document["location"], dst_path=str(aside), tracking_uri=uri))
        os.replace(got, folder)
    except (MlflowException, OSError) as error:
        if not folder.is_dir():  # else another process was faster
            location = document["location"]
            problem = f"needs its base model, which cannot be fetched from {location} ({first_line(error, 200)})"
            hint = "Set MLFLOW_TRACKING_URI to the MLflow that the model was logged to, and check that it answers"
            raise RecipeError("model", document["model"], problem, hint) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
