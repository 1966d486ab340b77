"""The training loop: optimizer steps, checkpoints, validation after each epoch, selection of the best weights."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import Examples, SplitExamples
from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.regularizers import EarlyStopping
from pipeline_lib.strategies.base import ParameterInfo
from pipeline_lib.training.activations import checkpoint_activations
from pipeline_lib.training.batches import plan_steps
from pipeline_lib.training.checkpoint import Checkpoints, State
from pipeline_lib.training.checkpoint_policy import CheckpointPolicy
from pipeline_lib.training.compilation import compile_blocks
from pipeline_lib.training.device import give_back_freed_memory
from pipeline_lib.training.distributed.collectives import refuse_drift
from pipeline_lib.training.distributed.sharding import Sharding, gather, refuse_unshardable, shard_model
from pipeline_lib.training.distributed.watchdog import beat
from pipeline_lib.training.fast_paths.embeddings import ReducedVocabulary
from pipeline_lib.training.frozen_backbone.backbone import Backbone
from pipeline_lib.training.frozen_backbone.layers import frozen_epochs, is_unfrozen
from pipeline_lib.training.packing import refuse_unpackable
from pipeline_lib.training.parameters import ParameterRow, groups
from pipeline_lib.training.schedule import rate
from pipeline_lib.training.step import Stepper
from pipeline_lib.training.validation import selection_metric, validate
from pipeline_lib.util.signals import Interrupts, Pruned

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn
    from transformers import PreTrainedModel

log = logging.getLogger("tunesmith")
Watch = Callable[[Sequence[dict[str, Any]], int], str | None]
"""Takes new history records (step, epoch, split, metric, value) and the total number of steps of all epochs.

Returns a reason to stop the training early, or None to continue.
"""


@dataclass
class Loop:
    """One training. With an empty `validation`, the last weights are used instead of the best."""

    recipe: Recipe
    model: "PreTrainedModel"
    head: set[str]
    table: Sequence[ParameterRow]
    train: Examples
    validation: SplitExamples
    pad: int
    accelerator: "Accelerator"
    checkpoints: Checkpoints
    backbone: Backbone | None = None
    watch: Watch = lambda records, steps: None
    vocabulary: ReducedVocabulary | None = None
    sharding: Sharding = "none"
    interrupts: Interrupts = field(default_factory=Interrupts)
    stop_reason: str | None = None
    """The last reason from `watch` to stop early."""

    def run(self) -> State:
        """Train to the end, resuming from the last checkpoint; afterwards rank 0's model has the best weights.

        Raises Pruned before the next epoch if `watch` returned a reason to stop.
        """
        self.begin()
        self.stop_reason = self.watch(self.state.history, self.steps)
        with self.interrupts:
            while self.state.epoch < len(self.plans) and not self._is_out_of_patience():
                if self.stop_reason:
                    self.checkpoint_policy.save(self.state)
                    self.checkpoints.wait()
                    raise Pruned(self.stop_reason)
                self._epoch()
        beat("results")
        self.checkpoint_policy.restore_best(self.state)
        if self.sharding != "none":
            gather(self.model, self.accelerator)
        if self.vocabulary and self.accelerator.is_main_process:
            self.vocabulary.widen()
        return self.state

    def begin(self) -> None:
        """Prepare for the next step: the first one, or the one after the last checkpoint."""
        if self.sharding != "none":
            give_back_freed_memory()
            shard_model(self.model, self.sharding, self.accelerator)
            if self.backbone:
                self.backbone.is_sharded = True
        self.model.to(self.accelerator.device)
        optimizer = self.recipe.training.optimizer.build(groups(self.model, self.table, self.head))
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        weights = self._weights()
        here = self.accelerator
        self.stepper = Stepper(
            self.recipe, self.model, weights, self.head, self.train, self.pad, here, self.optimizer, self.backbone
        )
        for regularizer in self.recipe.regularizers:
            regularizer.prepare(self.model)
        if self.stepper.is_sharded:
            refuse_unshardable(self.stepper)
        if self.recipe.training.packing:
            refuse_unpackable(self.stepper)
        checkpoint_activations(self.stepper)
        if self.recipe.execution.compile:
            compile_blocks(self.model)
        seconds = self.recipe.execution.checkpoint_seconds
        self.checkpoint_policy = CheckpointPolicy(
            self.checkpoints, weights, self.optimizer, here, self.interrupts, seconds
        )
        self.state = self.checkpoint_policy.restore()
        if self.state.batch_tokens:
            self.stepper.batch_tokens = min(self.state.batch_tokens, self.stepper.batch_tokens)
        refuse_drift(weights.values(), self.state.step, here)

    def _weights(self) -> "dict[str, nn.Parameter]":
        """Return the parameters that are trained in any epoch, by name."""
        trained = {row.name for row in self.table if row.trained}
        return {name: parameter for name, parameter in self.model.named_parameters() if name in trained}

    def _apply_freezing(self) -> None:
        """Freeze and unfreeze parameters for this epoch; stop using the backbone once its layers are trained."""
        if self.backbone and self.state.epoch >= frozen_epochs(self.recipe, self.infos.values()):
            self.backbone = self.stepper.backbone = None
            self.train = self.stepper.train = replace(self.train, hidden=None)
            self.validation = self.validation._replace(encoded=replace(self.validation.encoded, hidden=None))
        for name, weight in self.stepper.weights.items():
            weight.requires_grad_(is_unfrozen(self.recipe, self.infos[name], self.state.epoch))

    @cached_property
    def infos(self) -> dict[str, ParameterInfo]:
        """Name and depth information of each parameter, by name."""
        return parameter_infos(self.model, self.head)

    @cached_property
    def plans(self) -> list[list[np.ndarray]]:
        """Row groups of every step of every epoch; the last epoch may be cut off by the recipe's limit."""
        training, plans = self.recipe.training, []
        left = training.max_steps or sys.maxsize
        for epoch in range(training.epochs):
            if left <= 0:
                break
            steps = plan_steps(self.train.group_tokens, training.batch_size, self.recipe.seed, epoch)
            plans.append(steps[:left])
            left -= len(steps)
        return plans

    @cached_property
    def steps(self) -> int:
        """Total number of steps of all epochs; early stopping may end before."""
        return sum(len(steps) for steps in self.plans)

    @cached_property
    def stopper(self) -> EarlyStopping | None:
        """The recipe's early stopping, if any."""
        return next((r for r in self.recipe.regularizers if isinstance(r, EarlyStopping)), None)

    def _epoch(self) -> None:
        """Run the steps that are left of this epoch, with the validations among them and the one at its end."""
        self._apply_freezing()
        steps = self.plans[self.state.epoch]
        points = self.recipe.training.validation_points(len(steps)) - {len(steps)}
        for rows in steps[self.state.position :]:
            record = self.stepper.step(rows, self.state.step, self._rate())
            self.state.batch_tokens = self.stepper.batch_tokens
            self.state.step += 1
            self.state.position += 1
            self._record("train", record)
            if self.state.position in points:
                self._validate()
                if self._is_out_of_patience():
                    break
            self.checkpoint_policy.save_if_due(self.state)
        self.state.epoch += 1
        self.state.position = 0
        refuse_drift(self.stepper.weights.values(), self.state.step, self.accelerator)
        if not self._is_out_of_patience():
            self._validate()
        self.checkpoint_policy.save_if_due(self.state)

    def _rate(self) -> float:
        training = self.recipe.training
        return rate(training.schedule, training.warmup, self.state.step, self.steps)

    def _validate(self) -> None:
        """Score the validation rows, if there are any, and save the weights if they are the best so far."""
        if not len(self.validation.encoded):
            return
        split, budget = self.validation, self.stepper.batch_tokens
        objective, here = self.recipe.objective, self.accelerator
        scores = validate(objective, self.model, split, self.pad, budget, here, self.backbone)
        self._record("validation", scores)
        metric, higher_is_better = selection_metric(self.recipe)
        sign = 1 if higher_is_better else -1
        score = scores[metric]
        if np.isnan(score):
            gain = -np.inf  # never the best: no later score compares greater than NaN
            log.warning("%-11s validation %s is undefined after step %d", "finetune", metric, self.state.step)
        else:
            gain = sign * (score - self.state.best) if self.state.best is not None else np.inf
        if gain > (self.stopper.min_delta if self.stopper else 0.0):
            self.state.best, self.state.best_step = score, self.state.step
            self.state.validations_without_gain = 0
            self.checkpoint_policy.save_best(self.state)
        else:
            self.state.validations_without_gain += 1

    def _is_out_of_patience(self) -> bool:
        return self.stopper is not None and self.state.validations_without_gain >= self.stopper.patience

    def _record(self, split: str, scores: dict[str, float]) -> None:
        epoch = self.state.epoch + (1 if split == "train" else 0)
        records = [
            {"step": self.state.step, "epoch": epoch, "split": split, "metric": name, "value": value}
            for name, value in scores.items()
        ]
        self.state.history.extend(records)
        self.stop_reason = self.watch(records, self.steps) or self.stop_reason
