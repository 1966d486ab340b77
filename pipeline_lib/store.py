"""The one cache: a step's fingerprint names a directory, published whole, verified on every read.

ROOT/steps/NAME/FINGERPRINT/   an artifact: its files and manifest.json
ROOT/work/FINGERPRINT/         what an unfinished step keeps to go on from (checkpoints)
ROOT/locks, ROOT/partial       held locks; files being written
ROOT/damaged/                  artifacts whose bytes no longer match
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline_lib.schema import RecipeError

log = logging.getLogger("tunesmith")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Step:
    """What a step is: all of this decides its bytes, and nothing else may.

    `recipe` holds the recipe's parts that the step reads (plain JSON values), `inputs` the content digests of what it
    reads, `libraries` the packages whose version decides its bytes. Raise `version` when its code gives other bytes.
    """

    name: str
    version: int
    recipe: Mapping[str, Any]
    inputs: Mapping[str, str]
    libraries: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """The hashed facts, as they stand in the manifest."""
        versions = {library: version(library) for library in self.libraries}
        return {
            "step": self.name,
            "version": self.version,
            "recipe": dict(self.recipe),
            "inputs": dict(self.inputs),
            "libraries": versions,
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity; raises TypeError for a value that JSON cannot hold the same way everywhere."""
        return hashlib.sha256(_canonical(self.identity())).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A published step: a reference that steps hand to each other. `digest` is the SHA-256 over its files' digests."""

    step: str
    fingerprint: str
    digest: str
    folder: Path
    made: Mapping[str, Any]
    reused: bool

    @property
    def short(self) -> str:
        """The fingerprint as people read it."""
        return self.fingerprint[:8]

    @property
    def message(self) -> str:
        """What happened, in the words that the terminal, the log and Prefect show."""
        if self.reused:
            return f"reused {self.short}, made {self.made['at']} by {self.made['by']}"
        return f"made {self.short} in {self.made['seconds']:.1f} s"


class Store:
    """Artifacts under one root folder; raises RecipeError where the root cannot be a folder."""

    def __init__(self, root: str | Path):
        if "://" in str(root):
            raise RecipeError(
                "execution.store", str(root), "is no folder", "This version keeps its store on a local disk"
            )
        self.root = Path(root).absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(
                "execution.store", str(root), f"cannot be made ({error})", "Name a writable folder"
            ) from None

    def ensure(self, step: Step, make: Callable[[Path], None], by: str = "a plain call") -> Artifact:
        """The artifact of a step: reused if it is there and sound, else made by `make(empty_folder)` and published.

        Of several processes that want the same artifact one makes it; the others wait for it and reuse.
        """
        with self._lock(step):
            artifact = self._settle(step, make, by)
        log.log(logging.DEBUG if artifact.reused else logging.INFO, "%-11s %s", step.name, artifact.message)
        return artifact

    def _settle(self, step: Step, make: Callable[[Path], None], by: str) -> Artifact:
        return self.find(step) or self._make(step, make, by)

    def find(self, step: Step) -> Artifact | None:
        """The sound artifact of a step, or None; a damaged one is set aside."""
        folder = self._place(step)
        if not folder.exists():
            return None
        try:
            return self._read(step, folder)
        except (OSError, ValueError, KeyError, TypeError) as damage:
            self._set_aside(folder, damage)
            return None

    def work(self, step: Step) -> Path:
        """Where a step keeps what it needs to go on after a kill; removed once the step is published."""
        folder = self.root / "work" / step.fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _place(self, step: Step) -> Path:
        return self.root / "steps" / step.name / step.fingerprint[:16]

    def _read(self, step: Step, folder: Path) -> Artifact:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["identity"] != json.loads(_canonical(step.identity())):
            raise ValueError("its manifest tells of another step")
        files = describe(folder)
        if files != manifest["files"]:
            changed = sorted(
                name
                for name in files.keys() | manifest["files"].keys()
                if files.get(name) != manifest["files"].get(name)
            )
            raise ValueError(f"{', '.join(changed)} changed since it was made")
        return Artifact(step.name, step.fingerprint, content_digest(files), folder, manifest["made"], reused=True)

    def _make(self, step: Step, make: Callable[[Path], None], by: str) -> Artifact:
        partial = self.root / "partial" / f"{step.name}-{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        began = time.perf_counter()
        try:
            make(partial)
            made = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": time.perf_counter() - began,
                "by": by,
                "host": platform.node(),
            }
            return self._publish(step, partial, made)
        except OSError as error:
            if error.errno == 28:
                raise RecipeError("execution.store", str(self.root), "the disk is full", "Free some space") from error
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _publish(self, step: Step, partial: Path, made: dict[str, Any]) -> Artifact:
        files, folder = describe(partial), self._place(step)
        manifest = {"identity": step.identity(), "fingerprint": step.fingerprint, "made": made, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(partial, folder)
        shutil.rmtree(self.root / "work" / step.fingerprint, ignore_errors=True)
        return Artifact(step.name, step.fingerprint, content_digest(files), folder, made, reused=False)

    def _set_aside(self, folder: Path, damage: Exception) -> None:
        aside = self.root / "damaged" / f"{folder.parent.name}-{folder.name}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(exist_ok=True)
        os.rename(folder, aside)
        log.warning("%s %s is damaged (%s): set aside in %s", folder.parent.name, folder.name[:8], damage, aside)

    @contextmanager
    def _lock(self, step: Step) -> Iterator[None]:
        """A lock that the kernel frees when its holder dies."""
        path = self.root / "locks" / f"{step.fingerprint}.lock"
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.info("%s is being made by another run: waiting for it", step.name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file in a folder but its manifest, by relative path."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f != folder / MANIFEST)
    return {f.relative_to(folder).as_posix(): {"size": f.stat().st_size, "sha256": file_digest(f)} for f in files}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over the digests of files as `describe` gives them."""
    return hashlib.sha256(_canonical({name: facts["sha256"] for name, facts in files.items()})).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
