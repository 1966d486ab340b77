"""The base of adapters in MLflow: kept there once, for all models that are trained from it.

What is logged of an adapter's run is the adapter and a pointer, base.json: where the base is kept, and the SHA-256 of
each of its files.
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
from pipeline_lib.util.redaction import first_line

EXPERIMENT = "tunesmith-bases"
"""The experiment whose logged models are bases."""


def keep_base(client: MlflowClient, base: Path, folder: Path) -> Path:
    """Log a base unless this MLflow has it, and write a pointer to it into `folder`; the pointer's path."""
    files = digests(base, (*WEIGHTS, *TOKENIZER))
    name = f"base-{value_digest(files)[:16]}"
    found = client.search_logged_models([_experiment(client)], filter_string=f"name = '{name}'")
    kept = next((model for model in found if model.status == "READY"), None)
    if kept is None:  # what a killed process has begun is written again
        kept = next(iter(found), None) or client.create_logged_model(_experiment(client), name, model_type="base")
        client.log_model_artifacts(kept.model_id, str(base))
        client.finalize_logged_model(kept.model_id, "READY")
    told = {"model": f"models:/{kept.model_id}", "location": kept.artifact_location, "files": files}
    pointer = folder / POINTER
    pointer.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return pointer


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(EXPERIMENT))
    except MlflowException:  # another process was faster
        again = client.get_experiment_by_name(EXPERIMENT)
        if again is None:
            raise
        return str(again.experiment_id)


def files_of(pointer: Path) -> dict[str, str]:
    """The SHA-256 of each file of the base, by name."""
    return dict(json.loads(pointer.read_text(encoding="utf-8"))["files"])


def fetch_base(pointer: Path, uri: str | None = None) -> Path:
    """The folder of the base that a pointer names: where MLflow keeps it on this machine, else downloaded once.

    Args:
        pointer: The path of a base.json.
        uri: The address of the MLflow that serves the artifacts; empty: the one that this process uses.

    Raises:
        RecipeError: The base cannot be fetched, or is not what the pointer says.
    """
    told = json.loads(pointer.read_text(encoding="utf-8"))
    here = _on_this_machine(told["location"])
    folder = here if here and here.is_dir() else _downloaded(told, uri)
    if digests(folder, (*WEIGHTS, *TOKENIZER)) != told["files"]:
        problem = f"needs a base, and what lies in {folder} is another one"
        raise RecipeError("model", told["model"], problem, "Remove that folder, and publish the model again")
    return folder


def _on_this_machine(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        return Path(url2pathname(parts.path))
    return None


def _downloaded(told: dict[str, Any], uri: str | None) -> Path:
    """Download the base into this user's cache, whole or not at all."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunesmith" / "bases"
    folder = cache / value_digest(told["files"])[:16]
    if folder.is_dir():
        return folder
    aside = cache / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    aside.mkdir(parents=True)
    try:
        got = Path(download_artifacts(told["location"], dst_path=str(aside), tracking_uri=uri))
        os.replace(got, folder)
    except (MlflowException, OSError) as error:
        if not folder.is_dir():  # else another process was faster
            problem = f"needs its base, which cannot be fetched from {told['location']} ({first_line(error, 200)})"
            hint = "Set MLFLOW_TRACKING_URI to the MLflow that the model was logged to, and see that it answers"
            raise RecipeError("model", told["model"], problem, hint) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
