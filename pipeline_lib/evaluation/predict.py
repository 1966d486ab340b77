"""Run a model over encoded rows."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.training.batches import collate, within

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from pipeline_lib.data.examples import Examples

Read = Callable[["dict[str, Tensor]", "Tensor"], Sequence[Any]]
"""From a batch and its targets to what is kept of each of its groups of inputs, which mostly are single ones."""


def predict(
    model: "nn.Module", encoded: "Examples", pad: int, batch_tokens: int, accelerator: "Accelerator", read: Read
) -> list[Any]:
    """What `read` keeps of every group of inputs, in their order; the model computes them sorted by length."""
    import torch

    parts = within(np.arange(encoded.groups), encoded.group_tokens, batch_tokens)
    kept: list[Any] = [None] * encoded.groups
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        for part in parts:
            batch = collate(encoded, encoded.inputs(part), pad, accelerator.device)
            for index, value in zip(part, read(*batch), strict=True):
                kept[index] = value
    return kept
