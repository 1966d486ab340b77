"""The training loop: steps of equal cost, exact loss over accumulation, validation, the best checkpoint."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.dataset import Encoded
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.progress import Bar, bar
from pipeline_lib.recipe import Recipe
from pipeline_lib.regularizers import EarlyStopping
from pipeline_lib.training.batches import collate, plan, within
from pipeline_lib.training.checkpoint import Checkpoints, State
from pipeline_lib.training.parameters import ParameterRow, optimizer
from pipeline_lib.training.schedule import rate

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from transformers import PreTrainedModel

Watch = Callable[[Sequence[dict[str, Any]]], None]
"""Told of new history records: step, epoch, split, metric, value."""


@dataclass
class Loop:
    """One training. `validation` may be empty: then the last weights are kept."""

    recipe: Recipe
    model: "PreTrainedModel"
    table: Sequence[ParameterRow]
    train: Encoded
    validation: Encoded
    pad: int
    accelerator: "Accelerator"
    checkpoints: Checkpoints
    watch: Watch = lambda records: None

    def run(self) -> State:
        """Train to the end, from the last checkpoint where there is one; the model is left with the best weights."""
        self.model.to(self.accelerator.device)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer(self.model, self.table))
        self.state = self.checkpoints.restore(self.model, self.optimizer.optimizer) or State()
        self._restore_scaler()
        self.saved = time.monotonic()
        self.watch(self.state.history)
        with bar("training", self.steps, self.state.step) as shown:
            while self.state.epoch < self.recipe.training.epochs and not self._stopped():
                self._epoch(shown)
        self.checkpoints.restore_best(self.state, self.model)
        return self.state

    @cached_property
    def plans(self) -> list[list[np.ndarray]]:
        """The rows of every step of every epoch."""
        training = self.recipe.training
        return [
            plan(self.train.lengths, training.batch_size, self.recipe.seed, epoch) for epoch in range(training.epochs)
        ]

    @cached_property
    def steps(self) -> int:
        """How many steps all epochs have; early stopping may take fewer."""
        return sum(len(steps) for steps in self.plans)

    @cached_property
    def stopper(self) -> EarlyStopping | None:
        """The recipe's early stopping."""
        return next((r for r in self.recipe.regularizers if isinstance(r, EarlyStopping)), None)

    def _epoch(self, shown: Bar) -> None:
        for rows in self.plans[self.state.epoch][self.state.position :]:
            record = self._step(rows)
            self.state.step += 1
            self.state.position += 1
            self._tell("train", record)
            shown.advance(f"epoch {self.state.epoch + 1}/{self.recipe.training.epochs} loss {record['loss']:.4f}")
            self._save_if_due()
        self.state.epoch += 1
        self.state.position = 0
        if len(self.validation):
            self._validate()
        self._save_if_due()

    def _step(self, rows: np.ndarray) -> dict[str, float]:
        """One optimizer step. The loss is the mean over its rows, however many passes they take."""
        import torch

        training = self.recipe.training
        torch.manual_seed(_mix(self.recipe.seed, self.state.step))
        now = rate(training.schedule, training.warmup, self.state.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * now
        self.model.train()
        total = sum(self._backward(part, len(rows)) for part in within(rows, self.train.lengths, training.batch_tokens))
        norm = self.accelerator.clip_grad_norm_(
            [p for p in self.model.parameters() if p.requires_grad], training.max_grad_norm
        )
        loss = float(total)
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {self.state.step + 1}: lower training.learning_rate "
                "or set execution.precision to fp32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss, "learning_rate": training.learning_rate * now, "grad_norm": float(norm)}

    def _backward(self, rows: np.ndarray, in_step: int) -> "Tensor":
        batch = collate(self.train, rows, self.pad, self.accelerator.device)
        with self.accelerator.autocast():
            logits = self.model(**batch).logits
        loss = self.recipe.objective.loss(logits, self._targets(rows)) / in_step
        self.accelerator.backward(loss)
        return loss.detach()

    def _targets(self, rows: np.ndarray) -> "Tensor":
        import torch

        return torch.from_numpy(self.train.targets[rows]).to(self.accelerator.device)

    def _validate(self) -> None:
        """Score the validation rows, and remember the weights if they are the best so far."""
        scores = self._scores()
        self._tell("validation", scores)
        metric = (self.stopper.metric if self.stopper else None) or self.recipe.objective.main_metric
        better = 1 if metric != "loss" and self.recipe.objective.metrics()[metric].higher_is_better else -1
        gain = better * (scores[metric] - self.state.best) if self.state.best is not None else np.inf
        if gain > (self.stopper.min_delta if self.stopper else 0.0):
            self.state.best, self.state.best_step = scores[metric], self.state.step
            self.state.epochs_without_gain = 0
            self.checkpoints.save_best(self.state, self.model)
        else:
            self.state.epochs_without_gain += 1

    def _scores(self) -> dict[str, float]:
        import torch

        objective, valid = self.recipe.objective, self.validation
        logits = predict(self.model, valid, self.pad, self.recipe.training.batch_tokens, self.accelerator)
        loss = objective.loss(torch.from_numpy(logits), torch.from_numpy(valid.targets)) / len(valid)
        outcome = objective.outcome(logits, valid.targets)
        return {"loss": float(loss)} | {name: m.function(outcome) for name, m in objective.metrics().items()}

    def _stopped(self) -> bool:
        return self.stopper is not None and self.state.epochs_without_gain >= self.stopper.patience

    def _tell(self, split: str, scores: dict[str, float]) -> None:
        epoch = self.state.epoch + (1 if split == "train" else 0)
        records = [
            {"step": self.state.step, "epoch": epoch, "split": split, "metric": name, "value": value}
            for name, value in scores.items()
        ]
        self.state.history.extend(records)
        self.watch(records)

    def _save_if_due(self) -> None:
        if time.monotonic() - self.saved < self.recipe.execution.checkpoint_seconds:
            return
        if self.accelerator.scaler is not None:
            self.state.scaler = self.accelerator.scaler.state_dict()
        self.checkpoints.save(self.state, self.model, self.optimizer.optimizer)
        self.saved = time.monotonic()

    def _restore_scaler(self) -> None:
        if self.accelerator.scaler is not None and self.state.scaler:
            self.accelerator.scaler.load_state_dict(self.state.scaler)


def _mix(seed: int, step: int) -> int:
    """One 63-bit seed for the random numbers of a step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
