"""What a trained model came from and how it was scored, followed from manifest to manifest through the store."""

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
    """Folders, as far as they are there. A model that was taken out of its store knows little of itself."""

    model: Path
    """The folder with tunesmith.json."""
    base: Path | None = None
    prepared: Path | None = None
    scores: Path | None = None
    name: str = ""
    """The recipe's name."""
    base_name: str = ""
    """What the recipe calls the base."""
    revision: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)
    """The trained model's."""

    @property
    def root(self) -> Path:
        """The store's."""
        return self.model.parents[3]


def of_folder(folder: Path, base: Path | None = None) -> Lineage:
    """What is known of a model's folder: all that its store tells, or what lies beside it as in an MLflow model.

    There it is a pointer to the base, which is fetched unless `base` is given.
    """
    found = next((place for place in (folder, folder / "model") if (place / CARD).is_file()), None)
    if found is None:
        hint = f"Give a recipe, or a model's folder, which holds {CARD}"
        raise RecipeError("RECIPE_OR_MODEL_FOLDER", str(folder), "is not a trained model", hint)
    found = found.absolute()
    if not (found.parent / MANIFEST).is_file():
        pointer = found.parent / POINTER
        if base is None and pointer.is_file():
            from pipeline_lib.tracking.base_model import fetch_base

            base = fetch_base(pointer)
        return Lineage(found, base)
    manifest = manifest_of(found.parent)
    lineage = Lineage(found, manifest=manifest)
    inputs, mine = manifest["identity"]["inputs"], content_digest(manifest["files"])
    scored = [place for place in _newest(lineage.root, "evaluate") if _inputs(place).get("finetune") == mine]
    base, prepared = (_holding(lineage.root, step, inputs[step]) for step in ("base", "prepare"))
    return Lineage(found, base, prepared, next(iter(scored), None), manifest=manifest)


def manifests(folder: Path) -> dict[str, Any]:
    """The manifests that lead from a model's artifact back to the data: base, prepare, initialise, reference, finetune
    and shards.

    What the store has no more is left out.
    """
    found = {"finetune": manifest_of(folder), **manifests_read(folder, "base", "prepare", "initialise", "reference")}
    read = set(found.get("prepare", {}).get("identity", {}).get("inputs", {}).values())
    shards = map(manifest_of, _newest(folder.parents[2], "shard") if read else ())
    return found | {"shards": [told for told in shards if content_digest(told.get("files", {})) in read]}


def manifests_read(folder: Path, *steps: str) -> dict[str, Any]:
    """The manifests of what an artifact has read of these steps, as far as the store has it."""
    inputs, root = _inputs(folder), folder.parents[2]
    places = {step: _holding(root, step, inputs[step]) for step in steps if step in inputs}
    return {step: manifest_of(place) for step, place in places.items() if place}


def is_hub_id(name: str) -> bool:
    """Whether a base's name means a repository of the hub to everyone, and not a folder of one machine."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name)) and not Path(name).exists()


def file_digests(lineage: Lineage) -> list[str]:
    """The SHA-256 of each source file, in the order of the data report; empty where its shard is not here."""
    if lineage.prepared is None:
        return []
    shards = json.loads((lineage.prepared / "shards.json").read_text(encoding="utf-8"))
    places = [lineage.prepared.parents[1] / "shard" / fingerprint[:16] for fingerprint in shards]
    return [_inputs(place).get("file 0") or "" for place in places]


def _holding(root: Path, step: str, digest: str) -> Path | None:
    same = (place for place in _newest(root, step) if content_digest(manifest_of(place).get("files", {})) == digest)
    return next(same, None)


def _newest(root: Path, step: str) -> list[Path]:
    places = [file.parent for file in (root / "steps" / step).glob(f"*/{MANIFEST}")]
    return sorted(places, key=lambda place: manifest_of(place).get("made", {}).get("at", ""), reverse=True)


def _inputs(folder: Path) -> dict[str, str]:
    return manifest_of(folder).get("identity", {}).get("inputs", {})


def manifest_of(folder: Path) -> dict[str, Any]:
    """A manifest, empty where it is not there or broken: what a card does not know it leaves out."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
