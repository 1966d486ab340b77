"""The recipe's `training` section."""

from typing import Literal

from pydantic import (
    PositiveFloat,
    PositiveInt,
)

from pipeline_lib.util.section import Section, Share


class Training(Section):
    """How the model is trained."""

    epochs: PositiveInt = 3
    """Number of passes over the training data."""
    learning_rate: PositiveFloat = 5e-5
    """Peak learning rate of AdamW; strategies scale it per parameter."""
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    """How the learning rate changes after the warm-up."""
    warmup: Share = 0.06
    """Share of all steps in which the learning rate rises from zero."""
    batch_size: PositiveInt = 16
    """Rows per optimizer step, plus or minus one; the rows of a step have similar lengths."""
    batch_tokens: PositiveInt = 4096
    """Maximum tokens per forward pass, including padding; larger steps accumulate gradients over several passes."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients with a larger norm are scaled down to this norm."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Keep only the inputs of layers for the backward pass and compute the rest again: less memory, about a third more
    time, the same model. auto: on a GPU, if the activations would take more than half of its free memory; on a CPU
    never."""
