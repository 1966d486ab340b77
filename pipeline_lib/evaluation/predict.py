"""Run a model over encoded rows."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.training.batches import collate, split_by_tokens
from pipeline_lib.training.out_of_memory import read_in_halves

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from pipeline_lib.data.examples import Examples

Read = Callable[["dict[str, Tensor]", "Tensor"], Sequence[Any]]
"""Maps a batch and its targets to one value per group of inputs; most groups have a single input."""


def predict(
    model: "nn.Module", encoded: "Examples", pad: int, batch_tokens: int, accelerator: "Accelerator", read: Read,
    written: int = 0,
) -> list[Any]:  # fmt: skip
    """Run the model over all inputs and return what `read` gives for each group, in the order of the groups.

    Batches are formed from inputs of similar length, so results are put back into place by index. Each input counts as
    `written` tokens more in `batch_tokens`: those that `read` generates for it. A batch for which memory does not
    suffice is run in halves.
    """
    import torch

    def read_groups(groups: np.ndarray) -> Sequence[Any]:
        return read(*collate(encoded, encoded.inputs(groups), pad, accelerator.device))

    batches = split_by_tokens(np.arange(encoded.groups), encoded.group_tokens + written, batch_tokens)
    values: list[Any] = [None] * encoded.groups
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        for groups in batches:
            for group, value in zip(groups, read_in_halves(read_groups, groups), strict=True):
                values[group] = value
    return values
