"""Checkpoints: a training that is killed and resumed ends with the same bytes as one that was never interrupted.

No random state is stored: rows are drawn from (seed, epoch) and dropout from (seed, step), so the position in the data
is enough. A checkpoint is a folder that is written under a temporary name, synced and renamed; so are the best weights.
Both are verified by SHA-256 when they are read.
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
    from torch.optim import Optimizer

log = logging.getLogger("tunesmith")
Weights = Mapping[str, "nn.Parameter"]
WEIGHTS = "weights.safetensors"


@dataclass
class State:
    """Progress and history of a training."""

    epoch: int = 0
    position: int = 0
    """Completed steps of the current epoch."""
    step: int = 0
    best: float | None = None
    best_step: int | None = None
    validations_without_gain: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    batch_tokens: int | None = None
    """Maximum tokens per pass: fewer than the recipe's if memory ran out."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the loss scaler in fp16; empty otherwise."""


class Checkpoints:
    """The folder with a training's last checkpoint and its best weights so far."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, state: State, weights: Weights, optimizer: "Optimizer") -> None:
        """Publish a checkpoint with one rename, then delete the previous one."""
        checkpoint = self.folder / f"step-{state.step:09d}-{state.epoch}"
        partial = self._empty_folder("partial")
        save_tensors(weights, partial / WEIGHTS)
        save_tensors(_moments(weights, optimizer), partial / "moments.safetensors")
        (partial / "state.json").write_text(strict_json(asdict(state)), encoding="utf-8")
        _publish(partial, checkpoint)
        for old in [*self.folder.glob("step-*"), *self.folder.glob("best-*")]:
            if old not in (checkpoint, self.best(state)):
                shutil.rmtree(old)

    def restore(self, weights: Weights, optimizer: "Optimizer") -> State | None:
        """Restore weights and optimizer from the last intact checkpoint; returns None if there is none."""
        from safetensors.torch import load_file

        for checkpoint in sorted(self.folder.glob("step-*"), key=_step_and_epoch, reverse=True):
            state = self._read(checkpoint)
            if state is None:
                log.warning("%-11s skipped checkpoint %s: it is damaged", "finetune", checkpoint.name)
                continue
            for record in state.history:
                if record["value"] is None:  # JSON has no NaN
                    record["value"] = math.nan
            load_tensors(weights, checkpoint / WEIGHTS)
            _restore_moments(weights, optimizer, load_file(checkpoint / "moments.safetensors"))
            return state
        return None

    def save_best(self, state: State, weights: Weights) -> None:
        """Save the weights of `state.best_step`."""
        partial = self._empty_folder("best.partial")
        save_tensors(weights, partial / WEIGHTS)
        _publish(partial, self.best(state))

    def restore_best(self, state: State, weights: Weights) -> None:
        """Load the best weights into the model; without validation it already has them.

        Raises:
            RecipeError: The file with the best weights is damaged.
        """
        if state.best_step is None or state.best_step == state.step:
            return
        best = self.best(state)
        if not _is_intact(best):
            problem = "the best weights of this training were changed on disk after they were written"
            raise RecipeError(
                "execution.store", str(best), problem, "Run again: the training starts from the beginning"
            )
        load_tensors(weights, best / WEIGHTS)

    def best(self, state: State) -> Path:
        """Return the folder of the best weights so far."""
        return self.folder / f"best-{state.best_step}"

    def _empty_folder(self, name: str) -> Path:
        """Create an empty folder to write into."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _read(self, checkpoint: Path) -> State | None:
        """Read the state of a checkpoint; None if it, or the best weights that it refers to, are damaged."""
        if not _is_intact(checkpoint):
            return None
        state = State(**json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
        return state if state.best_step is None or _is_intact(self.best(state)) else None


def _publish(partial: Path, folder: Path) -> None:
    """Write a folder's manifest and give it its final name, replacing an existing folder."""
    (partial / MANIFEST).write_text(json.dumps(describe(partial)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    publish_folder(partial, folder)


def _is_intact(folder: Path) -> bool:
    """Return whether the files of a folder match its manifest."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == describe(folder)
    except (OSError, ValueError, RecursionError):
        return False


def _step_and_epoch(checkpoint: Path) -> list[int]:
    """Return step and epoch of a checkpoint as numbers, so that epoch 10 sorts after epoch 9."""
    return [int(number) for number in checkpoint.name.split("-")[1:]]


def _moments(weights: Weights, optimizer: "Optimizer") -> "dict[str, Tensor]":
    """Return the optimizer's state as tensors; bitsandbytes counts steps in whole numbers."""
    import torch

    return {
        f"{name}|{part}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for name, weight in weights.items()
        for part, value in optimizer.state.get(weight, {}).items()
    }


def _restore_moments(weights: Weights, optimizer: "Optimizer", moments: "dict[str, Tensor]") -> None:
    for key, value in moments.items():
        name, _, part = key.rpartition("|")
        is_count = value.ndim == 0 and not value.is_floating_point()
        optimizer.state[weights[name]][part] = value.item() if is_count else value.to(weights[name].device)
