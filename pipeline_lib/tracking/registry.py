"""The versions of a registered model, and promoting one to champion.

The alias `champion` is moved last and in a single call: a version is complete, with the decision in its tags, before it
can become the champion. The version that it replaced is recorded in its tags, so that a rollback is a single call, too.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.building import POINTER
from pipeline_lib.recipe.execution import Execution, tracking_uri
from pipeline_lib.tracking.base_model import fetch_served_base
from pipeline_lib.tracking.client import connect_mlflow
from pipeline_lib.tracking.errors import describe_refusal
from pipeline_lib.tracking.search import ABSENT
from pipeline_lib.util.redaction import redact

CHAMPION = "champion"
REPLACED, ROLLED_BACK = "tunesmith.replaced", "tunesmith.rolled_back"
MODEL, PROFILE = "tunesmith.model", "profile"


@dataclass(frozen=True)
class Version:
    """A version of a registered model; `model` is the models:/ address of its logged model."""

    number: int
    model: str
    tags: Mapping[str, str]


class Registry:
    """A registered model in MLflow; its methods raise RecipeError if MLflow does not answer or rejects a request."""

    def __init__(self, execution: Execution, name: str):
        self.uri, self.name = tracking_uri(execution), name
        with self._describe_errors():
            self.client = connect_mlflow(self.uri)

    def champion(self) -> Version | None:
        """Return the version with the alias `champion`, or None if there is none."""
        with self._describe_errors(), _absent():
            return _version(self.client.get_model_version_by_alias(self.name, CHAMPION))
        return None

    def versions(self) -> list[Version]:
        """Return all versions, newest first."""
        with self._describe_errors():
            found = self.client.search_model_versions(f"name='{self.name}'")
            return sorted(map(_version, found), key=lambda version: -version.number)

    def holds(self, model: str) -> bool:
        """Return whether a logged model still exists in this MLflow."""
        with self._describe_errors(), _absent():
            return bool(self.client.get_logged_model(model.removeprefix("models:/")))
        return False

    def register(self, model: str, tags: Mapping[str, str], why: str) -> Version:
        """Register a logged model, or set the tags of the version that it already has; return the version."""
        tags = {MODEL: model, **tags}
        with self._describe_errors():
            known = self._version_of(model)
            if known is None:
                with _ignore_existing():
                    self.client.create_registered_model(self.name)
                logged = self.client.get_logged_model(model.removeprefix("models:/"))
                # a server takes the source only with model_id; a models:/ source, or an id without its run, MLflow
                # would look up in the process's default store, not in this one
                version = self.client.create_model_version(
                    self.name,
                    logged.artifact_location,
                    logged.source_run_id,
                    tags=tags,
                    description=redact(why),
                    model_id=logged.model_id,
                )
                known = self._version_of(model) or _version(version)
                if known.number == int(version.version):
                    self._list_on_model(model, version)
                    return known
                self.client.delete_model_version(
                    self.name, version.version
                )  # another process has registered it as well
            self._list_on_model(model, self.client.get_model_version(self.name, str(known.number)))
            for tag, value in tags.items():
                self.client.set_model_version_tag(self.name, str(known.number), tag, value)
            self.client.update_model_version(self.name, str(known.number), redact(why))
            return known

    def _version_of(self, model: str) -> Version | None:
        """Return the first registered version of a logged model."""
        return next((version for version in reversed(self.versions()) if version.model == model), None)

    def _list_on_model(self, model: str, version: ModelVersion) -> None:
        """List a version on its logged model's page. A server does this itself; with a database, the client must."""
        model_id = model.removeprefix("models:/")
        listed = json.loads(self.client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
        if any((entry["name"], str(entry["version"])) == (version.name, str(version.version)) for entry in listed):
            return
        listed.append({"name": version.name, "version": int(version.version)})
        self.client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(listed)})

    def promote(self, version: Version, over: Version | None) -> None:
        """Make a version the champion, replacing the one it was compared with.

        Raises:
            RecipeError: The version `over` is no longer the champion; nothing was changed.
        """
        now = self.champion()
        if now and now.number == version.number:
            return
        if (now and now.number) != (over and over.number):
            problem = f"has another champion now (version {now.number if now else 'none'})"
            raise RecipeError("gate.model", self.name, problem, "Run again to compare the challenger with it")
        with self._describe_errors():
            if over:
                self.client.set_model_version_tag(self.name, str(version.number), REPLACED, str(over.number))
            self.client.set_registered_model_alias(self.name, CHAMPION, str(version.number))

    def roll_back(self, made_by: str) -> tuple[Version, int]:
        """Restore the previous champion; return the replaced version and the number of the restored one."""
        champion = self.champion()
        if champion is None:
            raise RecipeError("NAME", self.name, "has no champion", "Name a model that `tunesmith retrain` registered")
        before = champion.tags.get(REPLACED)
        if before is None:
            problem = f"had no champion before version {champion.number}"
            raise RecipeError("NAME", self.name, problem, "There is no version to roll back to")
        with self._describe_errors():
            self.client.get_model_version(self.name, before)
            self.client.set_model_version_tag(self.name, str(champion.number), ROLLED_BACK, redact(made_by))
            self.client.set_registered_model_alias(self.name, CHAMPION, before)
        return champion, int(before)

    def log_profile(self, model: str, folder: Path) -> None:
        """Log the profile of a model's data to the run that trained it."""
        with self._describe_errors():
            self.client.log_artifacts(self._run_id(model), str(folder), PROFILE)

    def profile(self, version: Version, into: Path) -> Path:
        """Fetch the profile of a version's data, and return its folder."""
        with self._describe_errors():
            return Path(self.client.download_artifacts(self._run_id(version.model), PROFILE, str(into)))

    def fetch(self, version: Version, into: Path) -> tuple[Path, Path | None]:
        """Fetch a version's model folder, and the folder of its base if it needs one."""
        with self._describe_errors():
            place = self.client.get_logged_model(version.model.removeprefix("models:/")).artifact_location
            folder = Path(download_artifacts(place, dst_path=str(into), tracking_uri=self.uri))
            parts: dict[str, Any] = Model.load(str(folder)).flavors["python_function"]["artifacts"]
            places = {name: folder / part["path"] for name, part in parts.items()}
            return places["model"], fetch_served_base(places[POINTER], self.uri) if POINTER in places else None

    def _run_id(self, model: str) -> str:
        return self.client.get_logged_model(model.removeprefix("models:/")).source_run_id or ""

    def _describe_errors(self) -> AbstractContextManager[None]:
        hint = "Nothing was promoted: run the same command again when it answers"
        return describe_refusal("execution.tracking_uri", self.uri, hint)


def _version(found: ModelVersion) -> Version:
    return Version(int(found.version), found.tags.get(MODEL, ""), dict(found.tags))


@contextmanager
def _absent() -> Iterator[None]:
    """Ignore the error for a missing name, alias or version."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise


@contextmanager
def _ignore_existing() -> Iterator[None]:
    """Ignore the error for an existing name."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
