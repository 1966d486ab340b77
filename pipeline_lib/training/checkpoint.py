"""Checkpoints: all that a killed training needs to end with the same bytes as one never killed.

Random numbers need no state here: rows are drawn from (seed, epoch) and dropout from (seed, step), so the place in
the data says it all. A checkpoint is a folder, written aside and renamed; its files are checked by SHA-256.
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.models.build import load_tensors, save_tensors
from pipeline_lib.store.digests import describe
from pipeline_lib.strict_json import strict_json

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import AdamW

log = logging.getLogger("tunesmith")
Weights = Mapping[str, "nn.Parameter"]


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
        aside, place = self.folder / "partial", self.folder / f"step-{state.step:09d}-{state.epoch}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        save_tensors(weights, aside / "weights.safetensors")
        save_tensors(_moments(weights, optimizer), aside / "moments.safetensors")
        (aside / "state.json").write_text(strict_json(asdict(state)), encoding="utf-8")
        (aside / "manifest.json").write_text(json.dumps(describe(aside)), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.rename(aside, place)
        for old in self.folder.glob("step-*"):
            if old != place:
                shutil.rmtree(old)
        for old in self.folder.glob("best-*"):
            if old != self.best(state):
                old.unlink()

    def restore(self, weights: Weights, optimizer: "AdamW") -> State | None:
        """Put weights and optimizer where the last sound checkpoint left them; None if there is none."""
        from safetensors.torch import load_file

        for place in sorted(self.folder.glob("step-*"), key=_when, reverse=True):
            if not self._sound(place):
                log.warning("%-11s checkpoint %s is damaged: passed over", "finetune", place.name)
                continue
            state = State(**json.loads((place / "state.json").read_text(encoding="utf-8")))
            for record in state.history:
                if record["value"] is None:  # JSON has no NaN
                    record["value"] = math.nan
            load_tensors(weights, place / "weights.safetensors")
            _refill(weights, optimizer, load_file(place / "moments.safetensors"))
            return state
        return None

    def save_best(self, state: State, weights: Weights) -> None:
        """Keep the weights of `state.best_step`, written aside and renamed."""
        aside = self.folder / "best.partial"
        save_tensors(weights, aside)
        os.rename(aside, self.best(state))

    def restore_best(self, state: State, weights: Weights) -> None:
        """Put the best weights back into the model; without validation it has them."""
        if state.best_step is not None and state.best_step != state.step:
            load_tensors(weights, self.best(state))

    def best(self, state: State) -> Path:
        """The file of the best weights so far."""
        return self.folder / f"best-{state.best_step}.safetensors"

    @staticmethod
    def _sound(place: Path) -> bool:
        try:
            return json.loads((place / "manifest.json").read_text(encoding="utf-8")) == describe(place)
        except (OSError, ValueError):
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
