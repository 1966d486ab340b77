"""Run a model over encoded rows."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.models.shards import free_gathered_weights, is_sharded
from pipeline_lib.training.batches import collate, split_by_tokens
from pipeline_lib.training.distributed.collectives import gather_arrays
from pipeline_lib.training.out_of_memory import PassTooLarge, is_out_of_memory, read_in_halves

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
    suffice is run in halves. Several processes each run a share of the batches, and all return all values; these must
    then be tuples of arrays.
    """
    import torch

    sharded = is_sharded(next(model.parameters()))

    def read_groups(groups: np.ndarray) -> Sequence[Any]:
        return read(*collate(encoded, encoded.inputs(groups), pad, accelerator.device))

    def read_on_shards(groups: np.ndarray) -> Sequence[Any]:
        try:
            return read_groups(groups)
        except Exception as error:
            if len(groups) > 1 and is_out_of_memory(error):
                raise PassTooLarge(max(1, batch_tokens // 2)) from error
            raise

    batches = split_by_tokens(np.arange(encoded.groups), encoded.group_tokens + written, batch_tokens)
    own, idle = _own_batches(batches, accelerator)
    values: dict[int, Any] = {}
    model.eval()
    # what inference mode gathers for a sharded model could not be trained with later
    with torch.no_grad() if sharded else torch.inference_mode(), accelerator.autocast():
        for groups in own:
            # ranks that gather weights together take the same passes, so none of them can run a batch in halves
            answers = read_on_shards(groups) if sharded else read_in_halves(read_groups, groups)
            values |= zip(groups.tolist(), answers, strict=True)
        for groups in idle if sharded else ():
            read_on_shards(groups)
    if sharded:
        free_gathered_weights(model)
    values = gather_arrays(values, accelerator)
    return [values[group] for group in range(encoded.groups)]


def _own_batches(batches: list[np.ndarray], accelerator: "Accelerator") -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the batches of this rank, and batches to run for nothing, so that all ranks run equal numbers."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    own = batches[rank::ranks]
    return own, batches[:1] * (-(-len(batches) // ranks) - len(own))
