"""What stands in an artifact's manifest: what made it, from what, and the digest of every file."""

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
    """The manifest of an artifact; raises Damage where it has not the form of one.

    Its file names are compared with those that are there and never opened, so that none can point elsewhere.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
        _Manifest.model_validate_json(text)
    except (FileNotFoundError, IsADirectoryError):
        raise Damage("it has no manifest") from None
    except ValidationError:
        raise Damage("its manifest is broken") from None
    return json.loads(text)
