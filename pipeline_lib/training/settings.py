"""The recipe's section `training`."""

from typing import Literal

from pydantic import (
    PositiveFloat,
    PositiveInt,
)

from pipeline_lib.util.section import Section, Share


class Training(Section):
    """How the model is trained."""

    epochs: PositiveInt = 3
    """Passes over the training data."""
    learning_rate: PositiveFloat = 5e-5
    """The peak rate of AdamW; strategies scale it per parameter."""
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    """How the rate moves after the warm-up."""
    warmup: Share = 0.06
    """Share of all steps in which the rate rises from zero."""
    batch_size: PositiveInt = 16
    """Rows per optimizer step, give or take one; the rows of a step are of like length."""
    batch_tokens: PositiveInt = 4096
    """Most tokens, padding included, that go through the model at once; a larger step is accumulated."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
