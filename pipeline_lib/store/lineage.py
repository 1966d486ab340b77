"""Trace a trained model to its base, data and scores through the manifests in the store."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.building import CARD, POINTER
from pipeline_lib.store.digests import content_digest
from pipeline_lib.store.manifests import MANIFEST


@dataclass(frozen=True)
class Lineage:
    """Folders that belong to a trained model, as far as they exist; a model outside its store has few of them."""

    model: Path
    """The folder with tunesmith.json."""
    base: Path | None = None
    prepared: Path | None = None
    scores: Path | None = None
    name: str = ""
    """The recipe's name."""
    base_name: str = ""
    """The base's name in the recipe."""
    revision: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)
    """Manifest of the trained model."""

    @property
    def root(self) -> Path:
        """Root folder of the store."""
        return self.model.parents[3]


def lineage_of_folder(folder: Path, base: Path | None = None) -> Lineage:
    """Return what is known about a model's folder, from its store or from the files next to it in an MLflow model.

    An MLflow model has a pointer to its base, which is downloaded unless `base` is given.
    """
    found = next((place for place in (folder, folder / "model") if (place / CARD).is_file()), None)
    if found is None:
        hint = f"Give a recipe, or a model's folder, which holds {CARD}"
        raise RecipeError("RECIPE_OR_MODEL_FOLDER", str(folder), "is not a trained model", hint)
    found = found.absolute()
    if not (found.parent / MANIFEST).is_file():
        pointer = found.parent / POINTER
        if base is None and pointer.is_file():
            from pipeline_lib.tracking.base_model import fetch_served_base

            base = fetch_served_base(pointer)
        return Lineage(found, base)
    manifest = manifest_of(found.parent)
    lineage = Lineage(found, manifest=manifest)
    inputs, mine = manifest["identity"]["inputs"], content_digest(manifest["files"])
    evaluations = _newest(lineage.root, "evaluate")
    scored = [place for place, evaluation in evaluations if _inputs(evaluation).get("finetune") == mine]
    base, prepared = (_find_artifact(lineage.root, step, inputs[step]) for step in ("base", "prepare"))
    return Lineage(found, base, prepared, next(iter(scored), None), manifest=manifest)


def manifests(folder: Path) -> dict[str, Any]:
    """Return the manifests from a model back to its data: base, prepare, initialise, reference, finetune and shards.

    Manifests that are no longer in the store are omitted.
    """
    found = {"finetune": manifest_of(folder), **input_manifests(folder, "base", "prepare", "initialise", "reference")}
    read = set(_inputs(found.get("prepare", {})).values())
    shards = [manifest for _, manifest in _newest(folder.parents[2], "shard")] if read else []
    return found | {"shards": [shard for shard in shards if content_digest(shard.get("files", {})) in read]}


def input_manifests(folder: Path, *steps: str) -> dict[str, Any]:
    """Return the manifests of an artifact's inputs from these steps, as far as the store has them."""
    inputs, root = _inputs(manifest_of(folder)), folder.parents[2]
    places = {step: _find_artifact(root, step, inputs[step]) for step in steps if step in inputs}
    return {step: manifest_of(place) for step, place in places.items() if place}


def is_hub_id(name: str) -> bool:
    """Return whether a base's name is a hub id, which means the same on every machine, and not a local folder."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name)) and not Path(name).exists()


def _find_artifact(root: Path, step: str, digest: str) -> Path | None:
    same = (place for place, found in _newest(root, step) if content_digest(found.get("files", {})) == digest)
    return next(same, None)


def _newest(root: Path, step: str) -> list[tuple[Path, dict[str, Any]]]:
    """The folders of a step's artifacts with their manifests, the newest first."""
    folders = [file.parent for file in (root / "steps" / step).glob(f"*/{MANIFEST}")]
    found = [(folder, manifest_of(folder)) for folder in folders]
    return sorted(found, key=lambda entry: entry[1].get("made", {}).get("at", ""), reverse=True)


def _inputs(manifest: dict[str, Any]) -> dict[str, str]:
    return manifest.get("identity", {}).get("inputs", {})


def manifest_of(folder: Path) -> dict[str, Any]:
    """Read a manifest; empty if it is missing or broken, so that a model card omits what is unknown."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
