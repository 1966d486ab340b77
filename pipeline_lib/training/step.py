"""One optimizer step: the exact mean loss of its rows however many passes they take, and what regularizers add."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import Examples
from pipeline_lib.models.routers import router_loss
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.batches import MULTIPLE, collate, within
from pipeline_lib.training.distributed.collectives import sum_gradients
from pipeline_lib.training.frozen_backbone.backbone import Backbone

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclass
class Stepper:
    """Takes steps on the rows of `train`. `weights` are the parameters that the recipe trains, by name."""

    recipe: Recipe
    model: "PreTrainedModel"
    weights: "Mapping[str, nn.Parameter]"
    head: set[str]
    train: Examples
    pad: int
    accelerator: "Accelerator"
    optimizer: "AcceleratedOptimizer"
    trunk: Backbone | None = None
    start: "dict[str, Tensor]" = field(init=False, default_factory=dict)
    """The weights before training, where a regularizer asks for them."""

    def __post_init__(self) -> None:
        self.smoothing = sum(regularizer.smoothing() for regularizer in self.recipe.regularizers)
        self.units = self.train.units
        self.router = router_loss(self.model, self.weights)
        if any(regularizer.needs_start for regularizer in self.recipe.regularizers):
            self.start = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def step(self, rows: np.ndarray, step: int, rate: float) -> dict[str, float]:
        """Take step number `step` (from 0) at `rate` of the peak rates; what it came to and what it read.

        `rows` are groups of inputs, as everywhere here.
        """
        import torch

        training = self.recipe.training
        torch.manual_seed(_mix(self.recipe.seed, step))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.model.train()
        loss = self._backward(rows)
        norm = self._clip(training.max_grad_norm)
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {step + 1}: lower training.learning_rate "
                "or set execution.precision to fp32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        read = {"rows": len(rows), "tokens": int(self.train.lengths[self.train.inputs(rows)].sum())}
        return {"loss": loss, "learning_rate": training.learning_rate * rate, "grad_norm": norm, **read}

    def _clip(self, most: float) -> float:
        """The norm of all gradients. AdamW divides by what it is above `most` as it reads them: one pass less."""
        import torch

        self.accelerator.unscale_gradients(self.optimizer)
        gradients = [weight.grad.flatten() for weight in self.weights.values() if weight.grad is not None]
        norm = torch.stack([gradient.dot(gradient) for gradient in gradients]).sum().sqrt()  # torch's norm: one thread
        self.optimizer.optimizer.grad_scale = (norm / most).clamp(min=1)  # as GradScaler asks its users to set it
        return float(norm)

    def _backward(self, rows: np.ndarray) -> float:
        """Gradients of the whole step; the loss without what regularizers add. Each rank takes a share of the rows."""
        units, here = max(1, int(self.units[rows].sum())), self.accelerator
        mine = rows[here.process_index :: here.num_processes]  # they stand by length: shares cost about the same
        parts = within(mine, self.train.group_tokens, self.recipe.training.batch_tokens)
        with ExitStack() as stack:
            for regularizer in self.recipe.regularizers:
                stack.enter_context(regularizer.perturb_weights(self.weights, self.start))
            self._part_ways()
            mean = self._mean_of_step(parts)
            loss = float(sum(self._part(part, units, len(part) / len(rows), mean) for part in parts))
        for regularizer in self.recipe.regularizers if here.is_main_process else ():  # of the weights: counted once
            if (penalty := regularizer.penalty(self.weights, self.start, self.head)) is not None:
                here.backward(penalty)
        return sum_gradients(self.weights.values(), loss, here)

    def _part_ways(self) -> None:
        """Until here all ranks draw the same, as their weights must be; dropout and noise are each rank's own."""
        import torch

        if rank := self.accelerator.process_index:
            torch.manual_seed(_mix(torch.initial_seed(), rank))

    def _mean_of_step(self, parts: Sequence[np.ndarray]) -> "Tensor | None":
        """What the loss of each part needs to know of the whole step, of all ranks; None where it needs nothing."""
        import torch

        objective, here = self.recipe.objective, self.accelerator
        if not objective.needs_step_mean:
            return None
        total = torch.zeros(2, device=here.device)
        with torch.no_grad(), here.autocast():
            for part in parts:
                total += objective.step_sum(self.model, *self._batch(part))
        summed: Tensor = here.reduce(total)  # type: ignore[assignment]
        return summed[0] / summed[1]

    def _batch(self, rows: np.ndarray) -> "tuple[dict[str, Tensor], Tensor]":
        inputs = self.train.inputs(rows)
        batch, targets = collate(self.train, inputs, self.pad, self.accelerator.device, self.multiple)
        batch, targets = self.recipe.objective.mask_inputs(self.model, batch, targets)
        return self.trunk.feed(batch) if self.trunk else batch, targets

    def _part(self, rows: np.ndarray, units: int, share: float, step_mean: "Tensor | None") -> "Tensor":
        """The loss of some rows, which are this share of the step's; what routers add is a mean over the parts."""
        objective = self.recipe.objective
        batch, targets = self._batch(rows)
        if step_mean is not None:
            batch["step_mean"] = step_mean
        logits = self._forward(batch, targets)
        loss = objective.loss_sum(logits, targets, self.smoothing) / units
        if self.router:
            loss = loss + share * self.router.of_last_pass(batch["attention_mask"])
        added = sum(self._second(logits, batch, targets, units))
        self.accelerator.backward(loss + added)
        return loss.detach()

    @property
    def multiple(self) -> int:
        """What widths of batches are rounded up to: only oneDNN, in bf16 on the CPU, makes kernels for each of them."""
        here = self.accelerator
        return MULTIPLE if here.device.type == "cpu" and here.mixed_precision == "bf16" else 1

    def _second(self, logits: "Tensor", batch: "dict[str, Tensor]", targets: "Tensor", units: int) -> "list[Tensor]":
        """Where a regularizer wants a second pass: half the difference of the two losses, and how far they disagree."""
        wanting = [regularizer for regularizer in self.recipe.regularizers if regularizer.needs_second_forward]
        if not wanting:
            return []
        objective, again = self.recipe.objective, self._forward(batch, targets)
        first, second = (objective.loss_sum(each, targets, self.smoothing) for each in (logits, again))
        one, other = (objective.flatten_targets(each, targets)[0] for each in (logits, again))
        return [(second - first) / 2 / units, *[r.consistency_loss(one, other) / units for r in wanting]]

    def _forward(self, batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        with self.accelerator.autocast():
            return self.recipe.objective.forward(self.model, batch, targets)


def _mix(seed: int, step: int) -> int:
    """One 63-bit seed for the random numbers of a step, and from that one for those of a rank."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
