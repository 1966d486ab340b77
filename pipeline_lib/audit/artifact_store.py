"""Read-only access to the store of an earlier training, which may have run on another machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.store.remote import RemoteStore
from pipeline_lib.store.store import verify_artifact
from pipeline_lib.tracking.records import TrainingRecord
from pipeline_lib.tracking.run_metadata import STORE
from pipeline_lib.tracking.runs import HOST


class TrainingArtifacts(NamedTuple):
    """A store's local folder, and its object storage if it is a remote store."""

    root: Path
    far: Objects | None = None

    def folder(self, manifest: Mapping[str, Any]) -> Path:
        """Return the folder of a manifest's artifact."""
        return self.root / "steps" / manifest["identity"]["step"] / manifest["fingerprint"][:16]

    def manifest(self, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the store's manifest of an artifact, or None if it is missing.

        The bytes of a local artifact are verified; raises one of DAMAGE if they do not match.
        """
        if (folder := self.folder(manifest)).exists():
            return verify_artifact(folder)
        shared = self.far and self.far.read(f"{folder.relative_to(self.root).as_posix()}/{MANIFEST}")
        return json.loads(shared) if shared else None

    def __str__(self) -> str:
        return self.far.shown if self.far else str(self.root)


def artifacts_of(run: TrainingRecord, store: str | None = None) -> tuple[TrainingArtifacts | None, str]:
    """Return the store of a run's artifacts, or why it cannot be read; `store` overrides the recorded location."""
    named = store or run.tags.get(STORE)
    if not named:
        return None, "the run has no record of its store; give it with --store"
    if "://" in named:
        try:
            far = RemoteStore(named)
        except RecipeError as error:  # the address is stored in MLflow without its password
            return None, str(error)
        return TrainingArtifacts(far.root, far.objects), ""
    if not Path(named).is_dir():
        return None, f"{named} is not on this machine; the run last ran on {run.tags.get(HOST, 'another')}"
    return TrainingArtifacts(Path(named).absolute()), ""
