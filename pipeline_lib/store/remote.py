"""A store that machines share: artifacts under a URL, with a local store in front of it as a cache.

URL/steps/NAME/FINGERPRINT/manifest.json     what the artifact is; names the folder of its files; written last
URL/steps/NAME/FINGERPRINT/DIGEST/           its files; machines that made other bytes write into other folders
URL/damaged/                                 manifests whose files no longer match

Locks, checkpoints and what is half fetched stay in the cache, `$TUNESMITH_CACHE` or `~/.cache/tunesmith`.
"""

import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.artifacts import Artifact, Step
from pipeline_lib.store.digests import file_digest
from pipeline_lib.store.durable import publish_folder
from pipeline_lib.store.integrity import set_aside
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.store.remote_manifest import Shared, parse
from pipeline_lib.store.store import Make, Store

log = logging.getLogger("tunesmith")
FETCHES = 2
"""How often a file is fetched before its bytes, and not their way here, are held to be wrong."""
READ_BY_PLANS = ("prepare", "initialise")
"""Steps whose labels and places a plan needs."""
TURNS = 8
"""Far more than machines that race one another need."""


def open_store(root: str) -> Store:
    """The store at a folder or an fsspec URL."""
    return RemoteStore(root) if "://" in root else Store(root)


def local_folder(root: str) -> Path:
    """Where the store at a folder or a URL keeps artifacts, locks and checkpoints on this machine."""
    if "://" not in root:
        return Path(root).absolute()
    home = Path(os.environ.get("TUNESMITH_CACHE") or Path.home() / ".cache" / "tunesmith")
    return home.absolute() / sha256(root.rstrip("/").encode()).hexdigest()[:16]


class RemoteStore(Store):
    """The local store of this machine, and under a URL what all machines share. Whoever publishes first is right."""

    def __init__(self, url: str):
        self.objects = Objects(url)
        super().__init__(local_folder(url))

    def _settle(self, step: Step, make: Make, made_by: str) -> Artifact:
        """Fetch, make or bring there what is missing, until this machine and the remote hold the same bytes."""
        held = self.find(step)
        for _ in range(TURNS):
            shared = self._shared(step)
            if held and shared and held.digest == shared.digest:
                return held
            if shared:
                held = self._take(step, shared) or held
            elif held:
                self._give(step, held)
            else:
                self.objects.write("probe", b"")  # hours of work must not end at a bucket that cannot be written
                held = self._make(step, make, made_by)
        problem, hint = f"does not keep {step.name} {step.fingerprint[:8]} as it was written", "Check its server"
        raise RecipeError("execution.store", self.objects.shown, problem, hint)

    def peek(self, step: Step) -> Artifact | None:
        """What this machine or the remote has; of what is small and read by a plan, the files too."""
        if held := super().peek(step):
            return held
        shared = self._shared(step)
        if shared and step.name in READ_BY_PLANS:
            return self._take(step, shared)
        if shared is None:
            return None
        return Artifact(step.name, step.fingerprint, shared.digest, self._place(step), shared.made, reused=True)

    def _shared(self, step: Step) -> Shared | None:
        """What the remote has of a step; a manifest that cannot be right is set aside."""
        manifest = self.objects.read(f"{_prefix(step)}/{MANIFEST}")
        if manifest is None:
            return None
        try:
            return parse(step, manifest)
        except ValueError as damage:
            self._set_aside_shared(step, manifest, damage)
            return None

    def _take(self, step: Step, shared: Shared) -> Artifact | None:
        """Fetch an artifact and publish it here; None, and set aside there, if its files do not match its manifest."""
        partial = self.root / "partial" / f"{step.name}-{step.fingerprint[:16]}-{shared.digest[:16]}"
        partial.mkdir(parents=True, exist_ok=True)  # the same for the next run: what it holds is not fetched again
        try:
            for name, facts in shared.files.items():
                self._fetch(f"{_prefix(step)}/{shared.digest[:16]}/{name}", partial / name, facts)
        except (FileNotFoundError, ValueError) as damage:
            shutil.rmtree(partial)
            self._set_aside_shared(step, shared.manifest, damage)
            return None
        (partial / MANIFEST).write_bytes(shared.manifest)
        folder = self._vacant(step)
        publish_folder(partial, folder)
        log.info("%-11s fetched %s from %s", step.name, step.fingerprint[:8], self.objects.shown)
        return Artifact(step.name, step.fingerprint, shared.digest, folder, shared.made, reused=True)

    def _fetch(self, name: str, file: Path, facts: Mapping[str, Any]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(FETCHES):
            if _matches(file, facts):
                return
            self.objects.get(name, file)
        if not _matches(file, facts):
            raise ValueError(f"{file.name} does not match its manifest")

    def _vacant(self, step: Step) -> Path:
        """Where a fetched artifact goes; one of other bytes that stands there gives way."""
        folder = self._place(step)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            aside = set_aside(self.root, folder)
            text = "%-11s %s was published first by another machine, with other bytes: those are used, ours are in %s"
            log.warning(text, step.name, step.fingerprint[:8], aside)
        return folder

    def _give(self, step: Step, held: Artifact) -> None:
        """Bring an artifact there. Its manifest comes last: what breaks off before it is seen by nobody."""
        manifest = json.loads((held.folder / MANIFEST).read_text(encoding="utf-8")) | {"folder": held.digest[:16]}
        for name in manifest["files"]:
            self.objects.put(held.folder / name, f"{_prefix(step)}/{held.digest[:16]}/{name}")
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        self.objects.create(f"{_prefix(step)}/{MANIFEST}", text.encode())

    def _set_aside_shared(self, step: Step, manifest: bytes, damage: Exception) -> None:
        aside = f"damaged/{step.name}-{step.fingerprint[:16]}-{uuid.uuid4().hex[:8]}.json"
        self.objects.write(aside, manifest)
        if self.objects.read(f"{_prefix(step)}/{MANIFEST}") == manifest:  # else another machine has mended it
            self.objects.remove(f"{_prefix(step)}/{MANIFEST}")
        where = f"{self.objects.shown}/{aside}"
        log.warning("%-11s %s is damaged (%s): set aside in %s", step.name, step.fingerprint[:8], damage, where)


def _prefix(step: Step) -> str:
    return f"steps/{step.name}/{step.fingerprint[:16]}"


def _matches(file: Path, facts: Mapping[str, Any]) -> bool:
    return file.is_file() and {"size": file.stat().st_size, "sha256": file_digest(file)} == facts
