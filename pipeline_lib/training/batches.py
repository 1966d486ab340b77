"""Group rows into steps and turn them into padded tensors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import IGNORED, Examples, Ragged

if TYPE_CHECKING:
    import torch
    from torch import Tensor

POOL = 128
"""Number of steps whose rows are sorted by length together: enough for little padding, few enough to stay random."""
MULTIPLE = 4
"""Widths of batches are rounded up to a multiple of this, in bf16 on the CPU.

oneDNN compiles about twenty kernels per width and caches the last 384 (`training/__init__.py`). Without rounding there
are about fifty widths, so most kernels were compiled again in every step: a sixth of a small model's training time.
"""


def plan_steps(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Draw the rows of each optimizer step of an epoch.

    The rows are shuffled, cut into pools, sorted by length within a pool, and cut into steps, so that a step has
    rows of similar length. Then the steps are shuffled. Steps with equal numbers of tokens would take equal time, but a
    step of short rows would have many of them, and each would weigh less.

    Args:
        lengths: [n] tokens of each row.
        batch_size: Rows per step, plus or minus one.
        seed: With `epoch`, determines the random order.
        epoch: Number of the epoch, from 0.

    Returns:
        Row indices of each step.
    """
    random = np.random.default_rng([seed, epoch])
    steps: list[np.ndarray] = []
    for pool in _cut(random.permutation(len(lengths)), POOL * batch_size):
        by_length = pool[np.argsort(lengths[pool], kind="stable")]
        steps += _cut(by_length, batch_size)
    return [steps[index] for index in random.permutation(len(steps))]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return np.array_split(rows, max(1, round(len(rows) / size)))


def split_by_tokens(rows: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Split rows into parts of at most `batch_tokens` tokens, including padding; a longer row is a part of its own.

    The rounding of widths in `collate` is not counted.
    """
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    parts, begin = [], 0  # longest rows first, so the first row of a part sets its width
    while begin < len(ordered):
        end = begin + max(1, batch_tokens // int(lengths[ordered[begin]]))
        parts.append(ordered[begin:end])
        begin = end
    return parts


def split_to_pack(rows: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Split rows into packs of at most `batch_tokens` tokens; a longer row is a pack of its own.

    Each pack is one forward pass, as wide as its rows together, so there is no padding and nothing to fit: best-fit
    decreasing would only mix long and short rows, and attention takes least time for rows of similar length.
    """
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    packs, begin, tokens = [], 0, 0
    for end, length in enumerate(lengths[ordered]):
        if end > begin and tokens + length > batch_tokens:
            packs.append(ordered[begin:end])
            begin, tokens = end, 0
        tokens += length
    return [*packs, ordered[begin:]] if len(ordered) else []


def pack(
    encoded: Examples, rows: Sequence[int] | np.ndarray, device: "torch.device | str" = "cpu"
) -> "tuple[dict[str, Tensor], Tensor]":
    """Concatenate rows into one row without padding.

    There is no attention mask: a row begins where the positions restart at 0, which is how the model separates the
    rows. The first token of a row is never predicted, so no row is predicted from the one before it.

    Returns:
        int64 `input_ids` and `position_ids`, and the targets, [1, tokens] each.
    """
    import torch

    targets: Any = encoded.targets
    arrays = (
        np.concatenate([encoded.ids[row] for row in rows]),
        np.concatenate([np.arange(length) for length in encoded.ids.lengths[rows]]),
        np.concatenate([targets[row] for row in rows]),
    )
    ids, positions, wanted = (torch.from_numpy(array.astype(np.int64))[None].to(device) for array in arrays)
    return {"input_ids": ids, "position_ids": positions}, wanted


def collate(
    encoded: Examples,
    rows: Sequence[int] | np.ndarray,
    pad: int,
    device: "torch.device | str" = "cpu",
    multiple: int = 1,
) -> "tuple[dict[str, Tensor], Tensor]":
    """Collate rows into right-padded tensors.

    Args:
        encoded: The examples to take rows from.
        rows: [n] row indices.
        pad: Token id for padding.
        device: Where to put the tensors.
        multiple: Round the width up to a multiple of this, but not above the longest of all rows.

    Returns:
        The model's inputs by name and the targets. Inputs are int64 [rows, width]: input_ids, attention_mask and, for
        text pairs, token_type_ids; if available also `hidden` [rows, width or 1, hidden size], cached outputs of frozen
        layers, and `reference` [rows, width], log-probabilities of the target tokens under the reference model.
    """
    import torch

    ids, lengths = encoded.ids.pad(rows, pad, multiple), encoded.ids.lengths[rows]
    batch = {"input_ids": ids, "attention_mask": (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)}
    if encoded.segments is not None:
        batch["token_type_ids"] = encoded.segments.pad(rows, 0, multiple)
    if isinstance(encoded.targets, Ragged):
        targets = encoded.targets.pad(rows, IGNORED, multiple)
    else:
        targets = encoded.targets[rows]
    tensors = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
    if encoded.hidden is not None:
        tensors["hidden"] = encoded.hidden.pad(rows, ids.shape[1]).to(device)
    if encoded.reference is not None:
        # stored for target tokens only, in row-major order, so boolean indexing puts them in place
        reference = np.zeros(targets.shape, np.float32)
        reference[targets >= 0] = np.concatenate([encoded.reference[row] for row in rows])
        tensors["reference"] = torch.from_numpy(reference).to(device)
    return tensors, torch.from_numpy(targets).to(device)
