"""Checkpoints: a training that is killed and resumed ends with the same bytes as one that was never interrupted.

No random state is stored: rows are drawn from (seed, epoch) and dropout from (seed, step), so the position in the data
is enough. A checkpoint is a folder that is written under a temporary name, synced and renamed; so are the best weights.
Both are verified by SHA-256 when they are read. Each process writes its own shards of the tensors, and any number of
processes can read them.
"""

import json
import logging
import math
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.digests import describe
from pipeline_lib.store.durable import publish_folder
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.training.distributed.collectives import broadcast_from_first
from pipeline_lib.training.distributed.shard_files import Pending, ShardFiles, stored_names
from pipeline_lib.training.distributed.shared_checkpoints import SharedCheckpoints
from pipeline_lib.training.distributed.watchdog import beat
from pipeline_lib.util.strict_json import strict_json

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn
    from torch.optim import Optimizer

log = logging.getLogger("tunesmith")
Weights = Mapping[str, "nn.Parameter"]
MOMENTS, SEPARATOR = "moments", "|"
"""Names in a checkpoint: `weight` for a weight, `moments|weight|part` for a part of its optimizer state."""


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
    """The folder with a training's last checkpoint and its best weights so far; all its processes call each method."""

    def __init__(self, folder: Path, accelerator: "Accelerator", shared_store: str | None = None):
        self.folder, self.accelerator = folder, accelerator
        self.files = ShardFiles(accelerator.num_processes)
        self.shared = SharedCheckpoints(shared_store, folder, accelerator, self.files.group) if shared_store else None
        self._publisher = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def save(self, state: State, weights: Weights, optimizer: "Optimizer") -> None:
        """Publish a checkpoint with one rename, then delete the previous one.

        With several processes, this continues in the background; call `wait` for its end.
        """
        checkpoint = self.folder / f"step-{state.step:09d}-{state.epoch}"
        tensors = {name: weight.detach() for name, weight in weights.items()} | _moments(weights, optimizer)
        self._write(checkpoint, tensors, strict_json(asdict(state)), (checkpoint, self.best_folder(state)))

    def save_best(self, state: State, weights: Weights) -> None:
        """Save the weights of `state.best_step`."""
        self._write(self.best_folder(state), {name: weight.detach() for name, weight in weights.items()})

    def wait(self) -> None:
        """Wait until the last save is published; raises its error if it failed."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def restore(self, weights: Weights, optimizer: "Optimizer") -> State | None:
        """Restore weights and optimizer from the last intact checkpoint; returns None if there is none."""
        beat("checkpoint")
        if self.shared:
            self.shared.fetch()
        found = broadcast_from_first(self._find_last, self.accelerator)
        if found is None:
            return None
        name, document = found
        state = State(**document)
        for record in state.history:
            if record["value"] is None:  # JSON has no NaN
                record["value"] = math.nan
        _restore_all(self.files, self.folder / name, weights, optimizer)
        return state

    def restore_best(self, state: State, weights: Weights) -> None:
        """Load the best weights into the model; without validation it already has them.

        Raises:
            RecipeError: The file with the best weights is damaged.
        """
        self.wait()
        if state.best_step is None or state.best_step == state.step:
            return
        best = self.best_folder(state)
        if self.shared:
            self.shared.fetch(only=best.name)
        if not broadcast_from_first(lambda: _is_intact(best), self.accelerator):
            problem = "the best weights of this training were changed on disk after they were written"
            raise RecipeError(
                "execution.store", str(best), problem, "Run again: the training starts from the beginning"
            )
        self.files.read({name: weight.detach() for name, weight in weights.items()}, best)

    def best_folder(self, state: State) -> Path:
        """Return the folder of the best weights so far."""
        return self.folder / f"best-{state.best_step}"

    def _write(
        self, folder: Path, tensors: "dict[str, Tensor]", state: str | None = None, keep: tuple[Path, ...] = ()
    ) -> None:
        """Write a checkpoint and publish it as `folder`; one with a state replaces all but those to keep."""
        beat("checkpoint")
        self.wait()
        partial = self.folder / ("best.partial" if state is None else "partial")
        if self.accelerator.is_local_main_process:  # before rank 0 tells all what to write
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(exist_ok=True)
            if state is not None and self.accelerator.is_main_process:
                (partial / "state.json").write_text(state, encoding="utf-8")
        written = self.files.write(tensors, partial)
        self._last = self._publisher.submit(self._publish, written, partial, folder, keep)
        if self.accelerator.num_processes == 1:
            self.wait()
        beat()

    def _publish(self, written: Pending, partial: Path, folder: Path, keep: tuple[Path, ...]) -> None:
        """Once all processes have written, give a checkpoint its manifest and its name, and delete older ones."""
        written.result()
        shared = self.shared and self.shared.commit(partial, folder.name, [path.name for path in keep])
        if not self.accelerator.is_local_main_process:
            return
        (partial / MANIFEST).write_text(json.dumps(shared or describe(partial)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        publish_folder(partial, folder)
        for old in [*self.folder.glob("step-*"), *self.folder.glob("best-*")] if keep else ():
            if old not in keep:
                shutil.rmtree(old)

    def _find_last(self) -> tuple[str, dict[str, Any]] | None:
        """Return the name and the state of the last intact checkpoint."""
        for checkpoint in sorted(self.folder.glob("step-*"), key=_step_and_epoch, reverse=True):
            if state := self._read(checkpoint):
                return checkpoint.name, state
            log.warning("%-11s skipped checkpoint %s: it is damaged", "finetune", checkpoint.name)
        return None

    def _read(self, checkpoint: Path) -> dict[str, Any] | None:
        """Read the state of a checkpoint; None if it, or the best weights that it refers to, are damaged."""
        if not _is_intact(checkpoint):
            return None
        document: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        state = State(**document)
        return document if state.best_step is None or _is_intact(self.best_folder(state)) else None


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
        SEPARATOR.join((MOMENTS, name, part)): value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for name, weight in weights.items()
        for part, value in optimizer.state.get(weight, {}).items()
    }


def _restore_all(files: ShardFiles, folder: Path, weights: Weights, optimizer: "Optimizer") -> None:
    """Read the weights, and the optimizer's state of those that had one."""
    names = {name.split(SEPARATOR)[1] for name in stored_names(folder) if name.startswith(MOMENTS + SEPARATOR)}
    _create_moments([weights[name] for name in weights if name in names], optimizer)
    moments = _moments(weights, optimizer)
    files.read({name: weight.detach() for name, weight in weights.items()} | moments, folder)
    for key, value in moments.items():
        _, name, part = key.split(SEPARATOR)
        state = optimizer.state[weights[name]]
        if not hasattr(state[part], "copy_"):  # a number, of which `value` is a copy
            state[part] = value.item()


def _create_moments(weights: "list[nn.Parameter]", optimizer: "Optimizer") -> None:
    """Have the optimizer create its state of these weights, in its own layout, by a step that changes nothing."""
    import torch

    rates = [group["lr"] for group in optimizer.param_groups]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
