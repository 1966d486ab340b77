"""Which rows go together in a step, and how they become tensors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import IGNORED, Examples, Ragged

if TYPE_CHECKING:
    import torch
    from torch import Tensor

POOL = 128
"""Steps whose rows are sorted by length together: enough to leave next to no padding, few enough to stay random."""
MULTIPLE = 4
"""What a step's rows are padded to a multiple of, in bf16 on the CPU.

oneDNN makes some twenty kernels for each width and keeps the last 384 (`training/__init__.py`), where rows of like
length come in fifty widths: it made most of them anew in every step, at a sixth of a small model's time.
"""


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
    """Rows cut into parts of at most `batch_tokens` tokens, padding included; a longer row stands alone.

    What `collate` rounds widths up by comes on top.
    """
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    parts, begin = [], 0
    while begin < len(ordered):
        end = begin + max(1, batch_tokens // int(lengths[ordered[begin]]))  # the first row is the longest
        parts.append(ordered[begin:end])
        begin = end
    return parts


def collate(
    encoded: Examples,
    rows: Sequence[int] | np.ndarray,
    pad: int,
    device: "torch.device | str" = "cpu",
    multiple: int = 1,
) -> "tuple[dict[str, Tensor], Tensor]":
    """Right-padded int64 tensors [rows, longest] for the model (input_ids, attention_mask, token_type_ids for pairs),
    with what is kept of its trunk `hidden` [rows, longest or 1, width], what the reference model gives to the learned
    tokens `reference` [rows, longest], and the targets of these rows.

    They are as long as the longest of these rows, rounded up to `multiple`, though not above the longest of all rows.
    """
    import torch

    ids, lengths, wanted = encoded.ids.padded(rows, pad, multiple), encoded.ids.lengths[rows], encoded.targets
    batch = {"input_ids": ids, "attention_mask": (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)}
    if encoded.segments is not None:
        batch["token_type_ids"] = encoded.segments.padded(rows, 0, multiple)
    targets = wanted.padded(rows, IGNORED, multiple) if isinstance(wanted, Ragged) else wanted[rows]
    tensors = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
    if encoded.hidden is not None:
        tensors["hidden"] = encoded.hidden.padded(rows, ids.shape[1]).to(device)
    if encoded.reference is not None:
        reference = np.zeros(targets.shape, np.float32)
        reference[targets >= 0] = np.concatenate([encoded.reference[row] for row in rows])
        tensors["reference"] = torch.from_numpy(reference).to(device)
    return tensors, torch.from_numpy(targets).to(device)
