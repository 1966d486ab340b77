"""Which rows go together in a step, and how they become tensors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.dataset import IGNORED, Encoded, Ragged

if TYPE_CHECKING:
    import torch
    from torch import Tensor

POOL = 128
"""Steps whose rows are sorted by length together: enough to leave next to no padding, few enough to stay random."""


def plan(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The rows of each optimizer step of an epoch, drawn anew from (seed, epoch).

    Rows [n] are shuffled, cut into pools, sorted by length within a pool, and cut into steps of `batch_size` rows, give
    or take one; so the rows of a step are of like length. The steps come in random order. Steps of equal tokens would
    cost the same each, but hold many of the short rows, each of which would then count for less.
    """
    random = np.random.default_rng([seed, epoch])
    pools = _cut(random.permutation(len(lengths)), POOL * batch_size)
    steps = [step for pool in pools for step in _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)]
    return [steps[index] for index in random.permutation(len(steps))]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return np.array_split(rows, max(1, round(len(rows) / size)))


def within(rows: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Rows cut into parts of at most `batch_tokens` tokens, padding included; a longer row stands alone."""
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    parts, begin = [], 0
    while begin < len(ordered):
        end = begin + max(1, batch_tokens // int(lengths[ordered[begin]]))  # the first row is the longest
        parts.append(ordered[begin:end])
        begin = end
    return parts


def collate(
    encoded: Encoded, rows: Sequence[int] | np.ndarray, pad: int, device: "torch.device | str" = "cpu"
) -> "tuple[dict[str, Tensor], Tensor]":
    """Right-padded int64 tensors [rows, longest] for the model (input_ids, attention_mask, token_type_ids for pairs),
    with what is kept of its trunk `hidden` [rows, longest or 1, width], and the targets of these rows."""
    import torch

    lengths = encoded.ids.lengths[rows]
    batch = {
        "input_ids": encoded.ids.padded(rows, pad),
        "attention_mask": (np.arange(lengths.max(initial=1)) < lengths[:, None]).astype(np.int64),
    }
    if encoded.segments is not None:
        batch["token_type_ids"] = encoded.segments.padded(rows, 0)
    wanted = encoded.targets
    targets = wanted.padded(rows, IGNORED) if isinstance(wanted, Ragged) else wanted[rows]
    tensors = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
    if encoded.hidden is not None:
        tensors["hidden"] = encoded.hidden.padded(rows).to(device)
    return tensors, torch.from_numpy(targets).to(device)
