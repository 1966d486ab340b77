"""The artifact store: folders named by step fingerprints, published atomically and verified on every read.

ROOT/steps/NAME/FINGERPRINT/   an artifact: its files and manifest.json
ROOT/work/FINGERPRINT/         checkpoints that an unfinished step can resume from
ROOT/locks, ROOT/partial       held locks; files being written
ROOT/damaged/                  artifacts whose bytes no longer match
ROOT/pins/                     artifacts that something outside the store needs (`pins.py`)
"""

import json
import logging
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from heapq import nlargest
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.artifacts import Artifact, Step
from pipeline_lib.store.differences import Candidate, explain_difference
from pipeline_lib.store.digests import content_digest, describe, value_digest
from pipeline_lib.store.durable import publish_folder
from pipeline_lib.store.integrity import DAMAGE, Damage, describe_damage, set_aside
from pipeline_lib.store.manifests import MANIFEST, read_manifest

log = logging.getLogger("tunesmith")
Make = Callable[[Path], Mapping[str, Any] | None]
"""Writes an artifact into an empty folder. Returns facts for the manifest that are not part of any digest, such as the
machine and its speed."""
RECENT = 200
"""Maximum number of artifacts to compare a new one with; a store may have many thousands of shards."""

_published_last: dict[Path, Path] = {}
"""Folder of a step's artifacts -> the artifact that this process published last."""


class Store:
    """Artifacts below a root folder; raises RecipeError if the folder cannot be created."""

    def __init__(self, root: str | Path):
        if "://" in str(root):
            raise RecipeError(
                "execution.store", str(root), "is not a folder", "This version keeps its store on a local disk"
            )
        self.root = Path(root).absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(
                "execution.store", str(root), f"cannot be made ({error})", "Name a writable folder"
            ) from None

    def ensure(self, step: Step, make: Make, made_by: str = "a plain call") -> Artifact:
        """Return the artifact of a step: reuse it if it is intact, else create it with `make` and publish it.

        If several processes need the same artifact, one creates it and the others wait and reuse it.

        Args:
            step: The step.
            make: Writes the artifact into an empty folder.
            made_by: Who creates it, for the manifest.
        """
        with describe_damage(self.root), self.lock(step.fingerprint, f"{step.name:<11} is being made"):
            artifact = self._settle(step, make, made_by)
            shutil.rmtree(self.root / "work" / step.fingerprint, ignore_errors=True)  # also after a kill just here
        log.log(logging.DEBUG if artifact.reused else logging.INFO, "%-11s %s", step.name, artifact.message)
        return artifact

    def _settle(self, step: Step, make: Make, made_by: str) -> Artifact:
        return self.find(step) or self._make(step, make, made_by)

    def find(self, step: Step) -> Artifact | None:
        """Return the intact artifact of a step, or None; a damaged one is set aside, an unreadable one is kept."""
        folder = self._place(step)
        with describe_damage(self.root, every=True):
            if not folder.exists():
                return None
            try:
                return self._read(step, folder)
            except DAMAGE as damage:
                self._set_aside(folder, damage)
                return None

    def peek(self, step: Step) -> Artifact | None:
        """Return the artifact of a step from its manifest, without verifying its files; for plans."""
        try:
            manifest = json.loads((self._place(step) / MANIFEST).read_text(encoding="utf-8"))
            digest, creation = content_digest(manifest["files"]), manifest["made"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Artifact(step.name, step.fingerprint, digest, self._place(step), creation, reused=True)

    def candidates(self, name: str) -> Iterator[Candidate]:
        """Yield a step's newest `RECENT` artifacts, to be compared with a new one; unreadable ones are skipped.

        The one that this process published last comes first: for many files it is near enough to ask for no other.
        """
        place = self.root / "steps" / name
        if last := _published_last.get(place):
            with suppress(OSError, ValueError):
                yield Candidate.from_manifest(json.loads((last / MANIFEST).read_text(encoding="utf-8")))
        with suppress(FileNotFoundError), os.scandir(place) as entries:
            newest = nlargest(RECENT, entries, key=lambda entry: entry.stat().st_mtime)
            for entry in newest:
                with suppress(OSError, ValueError):
                    yield Candidate.from_manifest(json.loads(Path(entry.path, MANIFEST).read_text(encoding="utf-8")))

    def work(self, step: Step) -> Path:
        """Return a step's folder for checkpoints; it is removed once the step is published."""
        folder = self.root / "work" / step.fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _place(self, step: Step) -> Path:
        return self.root / "steps" / step.name / step.fingerprint[:16]

    def _read(self, step: Step, folder: Path) -> Artifact:
        manifest = verify_artifact(folder)
        if manifest["fingerprint"] != step.fingerprint:
            raise Damage("its manifest belongs to another step")
        with suppress(OSError):  # the store may be another account's
            os.utime(folder / MANIFEST)  # when it was last used: no digest holds it
        return Artifact(
            step.name, step.fingerprint, content_digest(manifest["files"]), folder, manifest["made"], reused=True
        )

    def _make(self, step: Step, make: Make, made_by: str) -> Artifact:
        partial = self.root / "partial" / f"{step.fingerprint}-{uuid.uuid4().hex[:8]}"
        note = partial.with_suffix(".json")  # tells `cache gc` which inputs are in use
        began, reason = time.perf_counter(), explain_difference(step, self.candidates(step.name))
        try:
            partial.mkdir(parents=True)
            note.write_text(json.dumps(step.identity()), encoding="utf-8")
            facts = make(partial) or {}
            creation = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": time.perf_counter() - began,
                "by": made_by,
                "host": platform.node(),
                **facts,
            }
            return replace(self._publish(step, partial, creation), why=reason)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            note.unlink(missing_ok=True)

    def _publish(self, step: Step, partial: Path, creation: dict[str, Any]) -> Artifact:
        files, folder = describe(partial), self._place(step)
        manifest = {"identity": step.identity(), "fingerprint": step.fingerprint, "made": creation, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        publish_folder(partial, folder)
        _published_last[folder.parent] = folder
        return Artifact(step.name, step.fingerprint, content_digest(files), folder, creation, reused=False)

    def _set_aside(self, folder: Path, damage: Exception) -> None:
        aside = set_aside(self.root, folder)
        log.warning("%-11s %s is damaged (%s): set aside in %s", folder.parent.name, folder.name[:8], damage, aside)

    @contextmanager
    def lock(self, name: str, busy: str) -> Iterator[None]:
        """Hold a lock that the kernel frees when its holder dies; `busy` says what another holder does."""
        lock = self._lock(name)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.info("%s by another run: waiting for it", busy)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def lock_if_free(self, name: str) -> Iterator[bool]:
        """Hold a lock unless somebody else does; whether it is held."""
        with hold_if_free(self._lock(name)) as held:
            yield held

    def _lock(self, name: str) -> FileLock:
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(exist_ok=True)
        return FileLock(path)


@contextmanager
def hold_if_free(lock: FileLock) -> Iterator[bool]:
    """Hold a lock while this lasts, unless somebody else does; whether it is held."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def verify_artifact(folder: Path) -> dict[str, Any]:
    """Return the manifest of an artifact; raises Damage if its files are not as they were published."""
    files, manifest = describe(folder), read_manifest(folder)
    recorded = manifest["files"]
    if changed := sorted(name for name in files.keys() | recorded.keys() if files.get(name) != recorded.get(name)):
        raise Damage(f"{', '.join(changed)} changed since it was made")
    if value_digest(manifest["identity"]) != manifest["fingerprint"]:
        raise Damage("its manifest belongs to another step")
    return manifest
