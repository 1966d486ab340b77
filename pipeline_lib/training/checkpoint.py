"""Checkpoints: all that a killed training needs to end with the same bytes as one never killed.

Random numbers need no state here: rows are drawn from (seed, epoch) and dropout from (seed, step), so the place in
the data says it all. A checkpoint is a folder, written aside, synced and renamed, and so are the best weights. Both are
checked by SHA-256 when they are read.
"""

import json
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.building import load_tensors, save_tensors
from pipeline_lib.store.digests import describe
from pipeline_lib.store.durable import publish_folder
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.util.strict_json import strict_json

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import AdamW

log = logging.getLogger("tunesmith")
Weights = Mapping[str, "nn.Parameter"]
WEIGHTS = "weights.safetensors"


@dataclass
class State:
    """Where a training stands, and what it remembers."""

    epoch: int = 0
    position: int = 0
    """Steps of this epoch that are done."""
    step: int = 0
    best: float | None = None
    best_step: int | None = None
    epochs_without_gain: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)
    """fp16's loss scale."""


class Checkpoints:
    """The checkpoints of one training, in a folder of its own: the last one, and the best weights so far."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, state: State, weights: Weights, optimizer: "AdamW") -> None:
        """Publish a checkpoint with one rename, then drop what it replaces."""
        place = self.folder / f"step-{state.step:09d}-{state.epoch}"
        aside = self._aside("partial")
        save_tensors(weights, aside / WEIGHTS)
        save_tensors(_moments(weights, optimizer), aside / "moments.safetensors")
        (aside / "state.json").write_text(strict_json(asdict(state)), encoding="utf-8")
        _publish(aside, place)
        for old in [*self.folder.glob("step-*"), *self.folder.glob("best-*")]:
            if old not in (place, self.best(state)):
                shutil.rmtree(old)

    def restore(self, weights: Weights, optimizer: "AdamW") -> State | None:
        """Put weights and optimizer where the last sound checkpoint left them; None if there is none."""
        from safetensors.torch import load_file

        for place in sorted(self.folder.glob("step-*"), key=_when, reverse=True):
            state = self._read(place)
            if state is None:
                log.warning("%-11s checkpoint %s is damaged: skipped", "finetune", place.name)
                continue
            for record in state.history:
                if record["value"] is None:  # JSON has no NaN
                    record["value"] = math.nan
            load_tensors(weights, place / WEIGHTS)
            _refill(weights, optimizer, load_file(place / "moments.safetensors"))
            return state
        return None

    def save_best(self, state: State, weights: Weights) -> None:
        """Keep the weights of `state.best_step`, written aside and renamed."""
        aside = self._aside("best.partial")
        save_tensors(weights, aside / WEIGHTS)
        _publish(aside, self.best(state))

    def restore_best(self, state: State, weights: Weights) -> None:
        """Put the best weights back into the model; without validation it has them.

        Raises:
            RecipeError: where they have changed on the disk since they were written.
        """
        if state.best_step is None or state.best_step == state.step:
            return
        place = self.best(state)
        if not _sound(place):
            problem = "the best weights of this training have changed on the disk since they were written"
            raise RecipeError("execution.store", str(place), problem, "Run again: it trains from the beginning")
        load_tensors(weights, place / WEIGHTS)

    def best(self, state: State) -> Path:
        """The folder of the best weights so far."""
        return self.folder / f"best-{state.best_step}"

    def _aside(self, name: str) -> Path:
        """An empty folder to write into."""
        aside = self.folder / name
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        return aside

    def _read(self, place: Path) -> State | None:
        """The state of a checkpoint; None where it, or the best weights that it needs later, are damaged."""
        if not _sound(place):
            return None
        state = State(**json.loads((place / "state.json").read_text(encoding="utf-8")))
        return state if state.best_step is None or _sound(self.best(state)) else None


def _publish(aside: Path, place: Path) -> None:
    """Give a folder its manifest and its name, in place of what has that name already."""
    (aside / MANIFEST).write_text(json.dumps(describe(aside)), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    publish_folder(aside, place)


def _sound(place: Path) -> bool:
    """Whether the files of a folder are as they were published."""
    try:
        return json.loads((place / MANIFEST).read_text(encoding="utf-8")) == describe(place)
    except (OSError, ValueError, RecursionError):
        return False


def _when(place: Path) -> list[int]:
    """Step and epoch of a checkpoint, as numbers: epoch 10 comes after epoch 9."""
    return [int(number) for number in place.name.split("-")[1:]]


def _moments(weights: Weights, optimizer: "AdamW") -> "dict[str, Tensor]":
    return {
        f"{name}|{part}": value
        for name, weight in weights.items()
        for part, value in optimizer.state.get(weight, {}).items()
    }


def _refill(weights: Weights, optimizer: "AdamW", moments: "dict[str, Tensor]") -> None:
    for key, value in moments.items():
        name, _, part = key.rpartition("|")
        optimizer.state[weights[name]][part] = value.to(weights[name].device)
