"""Checkpoints of a training on several machines, kept in the store that they share.

URL/work/FINGERPRINT/index.json      the files of each complete checkpoint, with size and SHA-256; written last
URL/work/FINGERPRINT/CHECKPOINT/     the files, each uploaded by the machine whose processes wrote it

Each machine also keeps what it wrote in its own folder, and downloads the rest when it has to read a checkpoint.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.store.digests import describe, file_digest
from pipeline_lib.store.durable import publish_folder
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.training.distributed.collectives import gather_bytes

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.distributed import ProcessGroup

log = logging.getLogger("tunesmith")
Files = Mapping[str, Mapping[str, Any]]
"""Name -> size and SHA-256, as in a manifest."""
FETCHED = "fetched"


class SharedCheckpoints:
    """The complete checkpoints of one training; all its processes call each method but `clear`."""

    def __init__(self, url: str, folder: Path, accelerator: "Accelerator", group: "ProcessGroup | None" = None):
        self.objects, self.folder, self.group = Objects(url), folder, group
        self.prefix = f"work/{folder.name[:16]}"
        self.writes_index, self.is_first_here = accelerator.is_main_process, accelerator.is_local_main_process

    def commit(self, partial: Path, name: str, keep: Collection[str]) -> Files:
        """Upload what the processes have written to `partial` on their machines as the checkpoint `name`.

        Args:
            partial: Folder on each machine with the files that its processes wrote.
            name: Name of the checkpoint.
            keep: If any, the names of the only checkpoints to keep.

        Returns:
            The files of all machines.
        """
        files: dict[str, Mapping[str, Any]] = {}
        for part in self._gather(self._upload(partial, name) if self.is_first_here else {}):
            files |= part
        if self.writes_index:
            known = self._index() | {name: files}
            dropped = {} if not keep else {other: known.pop(other) for other in list(known) if other not in keep}
            self._write_index(known)
            for other in dropped:
                self._remove(other, dropped[other])
        return files

    def fetch(self, only: str | None = None) -> None:
        """Download the files of checkpoints that this machine lacks; `only` this one if given.

        One that a machine cannot get is removed from this machine's folder, so that an earlier one is used.
        """
        if self.writes_index:
            self._offer()
        self._gather(None)  # from here on the index has everything
        names = {name for name, files in self._index().items() if only in (None, name) and self._has(name, files)}
        for theirs in self._gather(sorted(names)):
            names &= set(theirs)
        local = [self.folder / only] if only else [*self.folder.glob("step-*"), *self.folder.glob("best-*")]
        if self.is_first_here:
            for checkpoint in local:
                if checkpoint.name not in names:
                    log.warning("%-11s skipped checkpoint %s: not all machines have it", "finetune", checkpoint.name)
                    shutil.rmtree(checkpoint, ignore_errors=True)
        self._gather(None)

    def clear(self) -> None:
        """Remove everything from the store: the training is done."""
        for name, files in self._index().items():
            self._remove(name, files)
        self.objects.remove(f"{self.prefix}/index.json")

    def _has(self, name: str, files: Files) -> bool:
        """Get a checkpoint onto this machine; returns whether it is complete here."""
        target, partial = self.folder / name, self.folder / FETCHED
        if not self.is_first_here or (target.is_dir() and describe(target) == files):
            return True
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for file, facts in files.items():
            if _matches(target / file, facts):
                os.rename(target / file, partial / file)
                continue
            try:
                self.objects.get(f"{self.prefix}/{name}/{file}", partial / file)
            except FileNotFoundError:
                return False
            if not _matches(partial / file, facts):
                return False
        (partial / MANIFEST).write_text(json.dumps(files), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        publish_folder(partial, target)
        return True

    def _offer(self) -> None:
        """Upload complete checkpoints that only this machine has, of a training that went on here alone."""
        known = self._index()
        for checkpoint in [*self.folder.glob("step-*"), *self.folder.glob("best-*")]:
            manifest = checkpoint / MANIFEST
            if checkpoint.name not in known and manifest.is_file():
                files = describe(checkpoint)
                if files == json.loads(manifest.read_text(encoding="utf-8")):
                    self._write_index(self._index() | {checkpoint.name: self._upload(checkpoint, checkpoint.name)})

    def _upload(self, folder: Path, name: str) -> Files:
        files = describe(folder)
        for file in files:
            self.objects.put(folder / file, f"{self.prefix}/{name}/{file}")
        return files

    def _remove(self, name: str, files: Files) -> None:
        for file in files:
            self.objects.remove(f"{self.prefix}/{name}/{file}")

    def _index(self) -> dict[str, Files]:
        return json.loads(self.objects.read(f"{self.prefix}/index.json") or b"{}")

    def _write_index(self, index: Mapping[str, Files]) -> None:
        self.objects.write(f"{self.prefix}/index.json", json.dumps(index).encode())

    def _gather(self, value: Any) -> list[Any]:
        """Return the values, plain JSON data, of all processes."""
        return [json.loads(text) for text in gather_bytes(json.dumps(value).encode(), group=self.group)]


def _matches(file: Path, facts: Mapping[str, Any]) -> bool:
    return file.is_file() and {"size": file.stat().st_size, "sha256": file_digest(file)} == facts
