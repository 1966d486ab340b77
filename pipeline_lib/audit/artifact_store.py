"""The store of a training that was run some time ago, perhaps on another machine; nothing is made or changed in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.store.remote import RemoteStore
from pipeline_lib.store.store import sound
from pipeline_lib.tracking.records import TrainingRecord
from pipeline_lib.tracking.run_metadata import STORE
from pipeline_lib.tracking.runs import HOST


class TrainingArtifacts(NamedTuple):
    """A store as far as it is on this machine, and what machines share of it."""

    root: Path
    far: Objects | None = None

    def folder(self, told: Mapping[str, Any]) -> Path:
        """Where the artifact of a manifest is."""
        return self.root / "steps" / told["identity"]["step"] / told["fingerprint"][:16]

    def manifest(self, told: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the store says of an artifact; here its bytes are hashed. None where there is none, raises DAMAGE."""
        if (folder := self.folder(told)).exists():
            return sound(folder)
        shared = self.far and self.far.read(f"{folder.relative_to(self.root).as_posix()}/{MANIFEST}")
        return json.loads(shared) if shared else None

    def __str__(self) -> str:
        return self.far.shown if self.far else str(self.root)


def artifacts_of(run: TrainingRecord, store: str | None = None) -> tuple[TrainingArtifacts | None, str]:
    """The store that a run's artifacts are in, or why it cannot be looked into; `store` names it anew."""
    named = store or run.tags.get(STORE)
    if not named:
        return None, "the run does not say where its store is; name it with --store"
    if "://" in named:
        try:
            far = RemoteStore(named)
        except RecipeError as error:  # MLflow was told the address without its password
            return None, str(error)
        return TrainingArtifacts(far.root, far.objects), ""
    if not Path(named).is_dir():
        return None, f"{named} is not on this machine; the run was last at work on {run.tags.get(HOST, 'another')}"
    return TrainingArtifacts(Path(named).absolute()), ""
