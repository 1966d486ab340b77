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

    Rows [n] are shuffled, cut into pools, and sorted by length within a pool, which is then cut where its running
    count of tokens passes the next multiple of a step's share. So a step has `batch_size` rows on average, its rows
    are of like length, and all steps cost about the same. The steps come in random order.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pools = np.array_split(order, max(1, round(len(order) / (POOL * batch_size))))
    steps = [
        step for pool in pools for step in _cut(pool[np.argsort(lengths[pool], kind="stable")], lengths, batch_size)
    ]
    return [steps[index] for index in random.permutation(len(steps))]


def _cut(rows: np.ndarray, lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    pieces = max(1, round(len(rows) / batch_size))
    tokens, piece = np.cumsum(lengths[rows]), np.arange(1, pieces)
    cuts = np.searchsorted(tokens, tokens[-1] * piece / pieces)
    cuts = np.maximum.accumulate(cuts - piece) + piece  # a row longer than a step's share must leave no step empty
    return np.split(rows, np.clip(cuts, piece, len(rows) - pieces + piece))


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
