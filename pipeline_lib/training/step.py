"""One optimizer step: the exact mean loss over its rows for any number of passes, plus the regularizers' terms."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import Examples
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.routers import router_loss
from pipeline_lib.models.shards import is_sharded
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.batches import MULTIPLE, collate, pack, split_by_tokens, split_to_pack
from pipeline_lib.training.distributed.collectives import any_rank, sum_gradients
from pipeline_lib.training.distributed.watchdog import beat
from pipeline_lib.training.fast_paths.attention import pack_tokens
from pipeline_lib.training.finite import refuse_infinite
from pipeline_lib.training.frozen_backbone.backbone import Backbone
from pipeline_lib.training.gradient_clipping import clip_gradients
from pipeline_lib.training.out_of_memory import PassTooLarge, is_out_of_memory, release_memory

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
    from torch import Tensor, nn
    from transformers import PreTrainedModel

log = logging.getLogger("tunesmith")


@dataclass
class Stepper:
    """Runs optimizer steps on the rows of `train`; `weights` are the trained parameters by name."""

    recipe: Recipe
    model: "PreTrainedModel"
    weights: "Mapping[str, nn.Parameter]"
    head: set[str]
    train: Examples
    pad: int
    accelerator: "Accelerator"
    optimizer: "AcceleratedOptimizer"
    backbone: Backbone | None = None
    start: "dict[str, Tensor]" = field(init=False, default_factory=dict)
    """The weights before training, if a regularizer needs them."""
    batch_tokens: int = field(init=False)
    """Maximum tokens per pass: the recipe's, halved whenever memory ran out."""

    def __post_init__(self) -> None:
        self.batch_tokens = self.recipe.training.batch_tokens
        self.smoothing = sum(regularizer.smoothing() for regularizer in self.recipe.regularizers)
        self.units = self.train.units
        self.router = router_loss(self.model, self.weights)
        self.is_sharded = any(map(is_sharded, self.weights.values()))
        if any(regularizer.needs_start for regularizer in self.recipe.regularizers):
            self.start = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def step(self, rows: np.ndarray, step: int, rate: float) -> dict[str, float]:
        """Run one optimizer step.

        Args:
            rows: Groups of inputs, as everywhere in this class.
            step: Number of the step, from 0; determines the random numbers.
            rate: Learning rate as a fraction of the peak.

        Returns:
            loss, learning_rate, grad_norm, and the numbers of rows and tokens.

        Raises:
            RecipeError: The loss is infinite or not a number, or memory does not suffice for one row at a time.
        """
        training = self.recipe.training
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.model.train()
        if self.backbone:
            self.backbone.turn_off_dropout()
        loss = self._backward(rows, step)
        norm = clip_gradients([*self.weights.values()], self.optimizer, self.accelerator, training.max_grad_norm)
        refuse_infinite(loss, step, self.model, self.recipe)
        self.optimizer.step()
        self.optimizer.zero_grad()
        sizes = {"rows": len(rows), "tokens": int(self.train.lengths[self.train.inputs(rows)].sum())}
        return {"loss": loss, "learning_rate": training.learning_rate * rate, "grad_norm": norm, **sizes}

    def _backward(self, rows: np.ndarray, step: int) -> float:
        """Compute the gradients of the whole step; return the loss without the regularizers' terms.

        Whenever memory runs out on any rank, all of them start the step again with half as many tokens per pass; ranks
        of a sharded training raise PassTooLarge, and begin again from the last checkpoint.
        """
        while True:
            self._seed(_mix(self.recipe.seed, step))
            loss, failed = None, None
            try:
                loss = self._compute_own_gradients(rows)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                failed = str(error)  # the error itself would keep the attempt's tensors
                if self.is_sharded:
                    self._halve_passes(rows, step, failed)
                    raise PassTooLarge(self.batch_tokens) from error
            if not any_rank(loss is None, self.accelerator):
                return sum_gradients(self.weights.values(), loss or 0.0, self.accelerator)
            self._halve_passes(rows, step, failed)

    def _halve_passes(self, rows: np.ndarray, step: int, failed: str | None) -> None:
        """Allow half as many tokens per pass, or fewer, until the rows of a step are split into more parts than before.

        Raises:
            RecipeError: Each part has one row already.
        """
        import torch

        self.optimizer.zero_grad()
        release_memory()
        parts, before = len(self._split(rows)), self.batch_tokens
        if parts == len(rows):
            longest = self.train.group_tokens[rows].max()
            problem = f"does not fit into memory, even with one row of {longest:,} tokens per pass"
            hint = "Set training.gradient_checkpointing to true, shorten the rows, or choose a smaller model"
            cause = torch.OutOfMemoryError(failed or "on another process")
            raise RecipeError("training.batch_tokens", before, problem, hint) from cause
        while len(self._split(rows)) == parts:
            self.batch_tokens = max(1, self.batch_tokens // 2)
        log.warning(
            "%-11s out of memory in step %s with %s tokens per pass; at most %s from now on, with the same loss",
            "finetune", f"{step + 1:,}", f"{before:,}", f"{self.batch_tokens:,}",
        )  # fmt: skip

    def _compute_own_gradients(self, rows: np.ndarray) -> float:
        """Compute this rank's part of the gradients, those of its share of the rows; return its part of the loss."""
        units, here = max(1, int(self.units[rows].sum())), self.accelerator
        parts, idle = self._own_passes(rows)
        with ExitStack() as stack:
            for regularizer in self.recipe.regularizers:
                stack.enter_context(regularizer.perturb_weights(self.weights, self.start))
            self._part_ways()
            mean = self._mean_of_step(parts, idle)
            loss = float(sum(self._backward_part(part, units, len(part) / len(rows), mean) for part in parts))
            for part in idle:
                self._backward_part(part, units, 0.0, mean, counts=False)
        # a penalty depends on the weights only: it is added once, or by each rank for its shards
        for regularizer in self.recipe.regularizers if here.is_main_process or self.is_sharded else ():
            if (penalty := regularizer.penalty(self.weights, self.start, self.head)) is not None:
                here.backward(penalty)
        return loss

    def _own_passes(self, rows: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the rows of each of this rank's passes, and rows of passes that count nothing.

        All ranks of a sharded training gather weights together, so all must take equal numbers of passes.
        """
        here = self.accelerator
        # sorted by length, so shares take similar time
        by_rank = [rows[rank :: here.num_processes] for rank in range(here.num_processes)]
        own = self._split(by_rank[here.process_index])
        most = max(len(self._split(share)) for share in by_rank) if self.is_sharded else len(own)
        return own, [rows[:1]] * (most - len(own))

    def _split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split rows into those of each forward pass."""
        lengths = self.train.group_tokens
        if self.recipe.training.packing:
            return split_to_pack(rows, lengths, pack_tokens(self.model, int(lengths.max()), self.batch_tokens))
        return split_by_tokens(rows, lengths, self.batch_tokens)

    def _seed(self, seed: int) -> None:
        """Seed the random numbers of the CPU and of the GPU that trains.

        `torch.manual_seed` prepares the seeds of every other kind of accelerator too, a millisecond per step.
        """
        import torch

        torch.default_generator.manual_seed(seed)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    def _part_ways(self) -> None:
        """Give each rank its own random seed for dropout and noise.

        Before this point all ranks draw the same numbers, as perturbed weights must be equal on all of them.
        """
        import torch

        if rank := self.accelerator.process_index:
            self._seed(_mix(torch.initial_seed(), rank))

    def _mean_of_step(self, parts: Sequence[np.ndarray], idle: Sequence[np.ndarray]) -> "Tensor | None":
        """Return the mean over the whole step, on all ranks, that the loss of a part needs; None if it needs none.

        `idle` are the rows of passes that count nothing.
        """
        import torch

        objective, here = self.recipe.objective, self.accelerator
        if not objective.needs_step_mean:
            return None
        total, failed = torch.zeros(2, device=here.device), None
        try:
            with torch.no_grad(), here.autocast():
                for part in parts:
                    total += objective.step_sum(self.model, *self._batch(part))
                for part in idle:
                    objective.step_sum(self.model, *self._batch(part))
        except Exception as error:
            if self.is_sharded or not is_out_of_memory(error):
                raise
            failed = str(error)
        if any_rank(failed is not None, here):  # all ranks stop here, or some would wait for the sum
            raise torch.OutOfMemoryError(failed or "on another process")
        summed: Tensor = here.reduce(total)  # type: ignore[assignment]
        return summed[0] / summed[1]

    def _batch(self, rows: np.ndarray) -> "tuple[dict[str, Tensor], Tensor]":
        if self.recipe.training.packing:
            return pack(self.train, rows, self.accelerator.device)
        inputs = self.train.inputs(rows)
        batch, targets = collate(self.train, inputs, self.pad, self.accelerator.device, self.multiple)
        batch, targets = self.recipe.objective.mask_inputs(self.model, batch, targets)
        return self.backbone.feed(batch) if self.backbone else batch, targets

    def _backward_part(
        self, rows: np.ndarray, units: int, share: float, step_mean: "Tensor | None", counts: bool = True
    ) -> "Tensor":
        """Compute the loss of some rows and its gradients.

        `share` is their share of the step's rows and weights the router loss, which is a mean over the parts. Unless
        the rows count, their gradients are multiplied by zero.
        """
        objective = self.recipe.objective
        batch, targets = self._batch(rows)
        if step_mean is not None:
            batch["step_mean"] = step_mean
        outputs = self._outputs(batch, targets)
        loss = objective.loss_sum(outputs, targets, self.smoothing) / units
        if self.router:
            loss = loss + share * self.router.compute_last_pass(batch.get("attention_mask"))
        added = sum(self._second_pass_terms(outputs, batch, targets, units))
        self.accelerator.backward((loss + added) * float(counts) if self.is_sharded else loss + added)
        beat()
        return loss.detach()

    @property
    def multiple(self) -> int:
        """Multiple that batch widths are rounded up to; only oneDNN in bf16 on the CPU compiles kernels per width."""
        here = self.accelerator
        return MULTIPLE if here.device.type == "cpu" and here.mixed_precision == "bf16" else 1

    def _second_pass_terms(
        self, outputs: Any, batch: "dict[str, Tensor]", targets: "Tensor", units: int
    ) -> "list[Tensor]":
        """Return the terms of regularizers that need a second forward pass; empty if none does.

        The first term is half the difference of the two losses: added to the first loss it gives their mean.
        """
        regularizers = [regularizer for regularizer in self.recipe.regularizers if regularizer.needs_second_forward]
        if not regularizers:
            return []
        objective, second_outputs = self.recipe.objective, self._outputs(batch, targets)
        first_loss = objective.loss_sum(outputs, targets, self.smoothing)
        second_loss = objective.loss_sum(second_outputs, targets, self.smoothing)
        first, _ = objective.flatten_targets(outputs, targets)
        second, _ = objective.flatten_targets(second_outputs, targets)
        consistency = [regularizer.consistency_loss(first, second) / units for regularizer in regularizers]
        return [(second_loss - first_loss) / 2 / units, *consistency]

    def outputs_of(self, rows: np.ndarray) -> Any:
        """Run the model on some rows, without their loss."""
        return self._outputs(*self._batch(rows))

    def _outputs(self, batch: "dict[str, Tensor]", targets: "Tensor") -> Any:
        with self.accelerator.autocast():
            return self.recipe.objective.outputs(self.model, batch, targets)


def _mix(seed: int, step: int) -> int:
    """Derive a 63-bit seed for the random numbers of a step or, from that seed, of a rank."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
