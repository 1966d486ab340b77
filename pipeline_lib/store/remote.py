"""A store shared by several machines: artifacts under a URL, with a local store as a cache.

URL/steps/NAME/FINGERPRINT/manifest.json     describes the artifact and names the folder of its files; written last
URL/steps/NAME/FINGERPRINT/DIGEST/           its files; machines with different bytes write to different folders
URL/damaged/                                 manifests whose files no longer match

Locks, checkpoints and partial downloads stay in the cache, `$TUNESMITH_CACHE` or `~/.cache/tunesmith`.
"""

import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.artifacts import Artifact, PublishedStep, Reference, Step
from pipeline_lib.store.digests import content_digest, file_digest
from pipeline_lib.store.durable import publish_folder
from pipeline_lib.store.integrity import set_aside
from pipeline_lib.store.manifests import MANIFEST, read_manifest
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.store.remote_manifest import Shared, parse_manifest
from pipeline_lib.store.store import Make, Store
from pipeline_lib.util.cache_folder import cache_folder

log = logging.getLogger("tunesmith")
FETCHES = 2
"""Number of downloads of a file before it counts as damaged at the source, not in transit."""
READ_BY_PLANS = ("prepare", "initialise")
"""Steps whose files a plan reads: labels and parameter depths."""
TURNS = 8
"""Maximum attempts to agree with the remote; far more than racing machines need."""


def absolute_address(root: str) -> str:
    """Return a store's address so that it holds in any working directory."""
    return root if "://" in root else str(Path(root).absolute())


def open_store(root: str) -> Store:
    """Open the store in a folder or at an fsspec URL."""
    return RemoteStore(root) if "://" in root else Store(root)


def local_folder(root: str) -> Path:
    """Return the folder on this machine for a store's artifacts, locks and checkpoints."""
    if "://" not in root:
        return Path(root).absolute()
    return cache_folder() / sha256(root.rstrip("/").encode()).hexdigest()[:16]


class RemoteStore(Store):
    """A local store combined with a shared one under a URL; the first published version of an artifact wins."""

    def __init__(self, url: str):
        self.objects = Objects(url)
        super().__init__(local_folder(url))

    def _settle(self, step: Step, make: Make, made_by: str) -> Artifact:
        """Download, create or upload the artifact until this machine and the remote have the same bytes."""
        held = self.find(step)
        for _ in range(TURNS):
            shared = self._find_shared(step)
            if held and shared and held.digest == shared.digest:
                return held
            if shared:
                held = self._take(step, shared) or held
            elif held:
                self._give(step, held)
            else:
                self.objects.write("probe", b"")  # fail before hours of work if the bucket is not writable
                held = self._make(step, make, made_by)
        problem, hint = f"does not return {step.name} {step.fingerprint[:8]} as it was written", "Check its server"
        raise RecipeError("execution.store", self.objects.shown, problem, hint)

    def peek(self, step: Step) -> Artifact | None:
        """Look up an artifact here and on the remote; downloads its files only if a plan reads them."""
        if held := super().peek(step):
            return held
        shared = self._find_shared(step)
        if shared and step.name in READ_BY_PLANS:
            return self._take(step, shared)
        if shared is None:
            return None
        return Artifact(step.name, step.fingerprint, shared.digest, self._place(step), shared.made, reused=True)

    def fetch(self, reference: Reference) -> Path:
        """Return the folder of an artifact that another machine has published, and download what is missing.

        Raises:
            RecipeError: The remote has no such artifact, or one with other bytes.
        """
        manifest = self.objects.read(f"steps/{reference.step}/{reference.fingerprint[:16]}/{MANIFEST}")
        try:
            step = PublishedStep.from_identity(json.loads(manifest or b"")["identity"])
        except (ValueError, KeyError, TypeError):
            step = None
        if step is None or (step.name, step.fingerprint) != reference[:2]:
            raise self._lacks(reference)
        with self.lock(step.fingerprint, f"{step.name:<11} is being fetched"):
            held = self.find(step)
            if held and held.digest == reference.digest:
                return held.folder
            shared = self._find_shared(step)
            taken = self._take(step, shared) if shared and shared.digest == reference.digest else None
        if taken is None:
            raise self._lacks(reference)
        return taken.folder

    def _lacks(self, reference: Reference) -> RecipeError:
        problem = (
            f"does not have {reference.step} {reference.fingerprint[:8]} with the same content as on the first machine"
        )
        return RecipeError("execution.store", self.objects.shown, problem, "Run again on the first machine")

    def _find_shared(self, step: Step) -> Shared | None:
        """Return the remote's artifact of a step; an invalid manifest is set aside."""
        manifest = self.objects.read(f"{_prefix(step)}/{MANIFEST}")
        if manifest is None:
            return None
        try:
            return parse_manifest(step, manifest)
        except ValueError as damage:
            self._set_aside_shared(step, manifest, damage)
            return None

    def _take(self, step: Step, shared: Shared) -> Artifact | None:
        """Download and publish an artifact; if its files do not match its manifest, set it aside and return None."""
        partial = self.root / "partial" / f"{step.name}-{step.fingerprint[:16]}-{shared.digest[:16]}"
        partial.mkdir(parents=True, exist_ok=True)  # a fixed name, so that an interrupted download is resumed
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
        """Return the folder for a downloaded artifact; an existing one with other bytes is set aside."""
        folder = self._place(step)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            aside = set_aside(self.root, folder)
            text = "%-11s %s was published first by another machine with different content: using it; ours is in %s"
            log.warning(text, step.name, step.fingerprint[:8], aside)
        return folder

    def _give(self, step: Step, held: Artifact) -> None:
        """Upload an artifact, its manifest last, so that an interrupted upload stays invisible."""
        manifest = json.loads((held.folder / MANIFEST).read_text(encoding="utf-8")) | {"folder": held.digest[:16]}
        for name in manifest["files"]:
            self.objects.put(held.folder / name, f"{_prefix(step)}/{held.digest[:16]}/{name}")
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        self.objects.create(f"{_prefix(step)}/{MANIFEST}", text.encode())

    def _set_aside_shared(self, step: Step, manifest: bytes, damage: Exception) -> None:
        aside = f"damaged/{step.name}-{step.fingerprint[:16]}-{uuid.uuid4().hex[:8]}.json"
        self.objects.write(aside, manifest)
        if self.objects.read(f"{_prefix(step)}/{MANIFEST}") == manifest:  # else another machine has already replaced it
            self.objects.remove(f"{_prefix(step)}/{MANIFEST}")
        location = f"{self.objects.shown}/{aside}"
        log.warning("%-11s %s is damaged (%s): set aside in %s", step.name, step.fingerprint[:8], damage, location)


def reference_to(folder: Path) -> Reference:
    """Return the reference to the artifact in a folder, from its manifest alone."""
    manifest = read_manifest(folder)
    return Reference(manifest["identity"]["step"], manifest["fingerprint"], content_digest(manifest["files"]))


def _prefix(step: Step) -> str:
    return f"steps/{step.name}/{step.fingerprint[:16]}"


def _matches(file: Path, facts: Mapping[str, Any]) -> bool:
    return file.is_file() and {"size": file.stat().st_size, "sha256": file_digest(file)} == facts
