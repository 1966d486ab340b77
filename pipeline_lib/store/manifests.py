"""The manifest of an artifact: its identity, how it was created, and the digest of every file."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline_lib.store.integrity import Damage

MANIFEST = "manifest.json"


class _Made(BaseModel):
    at: str
    by: str
    seconds: float


class _Facts(BaseModel):
    size: int
    sha256: str


class _Identity(BaseModel):
    step: str
    version: int
    recipe: dict[str, Any]
    inputs: dict[str, str]
    libraries: dict[str, str]


class _Manifest(BaseModel, strict=True):
    identity: _Identity
    fingerprint: str
    made: _Made
    files: dict[str, _Facts]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an artifact; raises Damage if it is missing or malformed.

    Its file names are only compared with existing files and never opened, so they cannot point elsewhere.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
        _Manifest.model_validate_json(text)
    except (FileNotFoundError, IsADirectoryError):
        raise Damage("it has no manifest") from None
    except ValidationError:
        raise Damage("its manifest is broken") from None
    return json.loads(text)
