"""The recipe's `training` section."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt, field_validator

from pipeline_lib.optimizers import AdamW, Optimizer
from pipeline_lib.util.section import Section, Share


class Training(Section):
    """How the model is trained."""

    epochs: PositiveInt = 3
    """Number of passes over the training data."""
    max_steps: PositiveInt | None = None
    """Optimizer steps after which training ends, even within an epoch; empty: no limit."""
    evaluate_every: PositiveFloat = 1.0
    """How often the validation rows are scored: up to 1 a share of an epoch, above 1 a number of steps; always at the
    end of an epoch."""
    learning_rate: PositiveFloat = 5e-5
    """Peak learning rate; strategies scale it per parameter."""
    optimizer: Optimizer = AdamW(kind="adamw")
    """Rule by which gradients change the weights."""
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    """How the learning rate changes after the warm-up."""
    warmup: Share = 0.06
    """Share of all steps in which the learning rate rises from zero."""
    batch_size: PositiveInt = 16
    """Rows per optimizer step, plus or minus one; the rows of a step have similar lengths."""
    batch_tokens: PositiveInt = 4096
    """Maximum tokens per forward pass, including padding; larger steps accumulate gradients over several passes."""
    packing: bool = False
    """Lay the rows of a step end to end instead of padding them, for `causal_lm` and causal `language_modeling`. No row
    attends to another, so loss and gradients are the same apart from dropout. The base must be of a family for which
    that holds, which is tested before the first step."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients with a larger norm are scaled down to this norm."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Keep only the inputs of layers for the backward pass and compute the rest again: less memory, about a third more
    time, the same model. auto: on a GPU, if the activations would take more than half of its free memory; on a CPU
    never."""

    @field_validator("evaluate_every")
    @classmethod
    def _check_whole_steps(cls, every: float) -> float:
        if every > 1 and not every.is_integer():
            raise ValueError(f"{every:g} is neither a share of an epoch nor a whole number of steps. Round it")
        return every

    def validation_points(self, steps: int) -> set[int]:
        """Return after which of an epoch's `steps` steps the validation rows are scored; always after the last one."""
        if self.evaluate_every > 1:
            return {*range(int(self.evaluate_every), steps, int(self.evaluate_every)), steps}
        parts = round(1 / self.evaluate_every)
        return {round(part * steps / parts) for part in range(1, parts + 1)} - {0}
