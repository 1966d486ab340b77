"""Parse manifests from a shared store; they are untrusted, as anyone who can write there may have written them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.digests import content_digest
from pipeline_lib.store.manifests import MANIFEST


@dataclass(frozen=True)
class Shared:
    """An artifact on the remote: its manifest as raw bytes, and the parsed contents."""

    manifest: bytes
    files: Mapping[str, Mapping[str, Any]]
    digest: str
    made: Mapping[str, Any]


def parse_manifest(step: Step, manifest: bytes) -> Shared:
    """Parse the manifest of a step; raises ValueError if it is invalid or not trustworthy."""
    try:
        return _parse(step, manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its manifest has an unexpected form ({error!r})") from None


def _parse(step: Step, manifest: bytes) -> Shared:
    document = json.loads(manifest)
    if document["identity"] != json.loads(json.dumps(step.identity())):
        raise ValueError("its manifest belongs to another step")
    files = document["files"]
    for name in files:
        _refuse_escape(name, files)
    digest = content_digest(files)
    if document["folder"] != digest[:16]:
        raise ValueError("its manifest names another folder")
    creation = document["made"]
    _ = creation["at"], creation["by"]  # what is said of an artifact that is reused
    return Shared(manifest, files, digest, creation)


def _refuse_escape(name: str, files: Mapping[str, Any]) -> None:
    """Reject file names that could write outside the artifact's folder on this machine."""
    path = PurePosixPath(name)
    strange = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or path.as_posix() != name
    if strange or name in (".", MANIFEST) or any(str(parent) in files for parent in path.parents):
        raise ValueError(f"its manifest holds the file name {name!r}")
