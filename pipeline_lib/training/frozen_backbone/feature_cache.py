"""Cache a backbone's outputs for all rows as safetensors, without padding, rows sorted by length.

train-00000.safetensors, train-00001.safetensors ... validation-00000.safetensors: `hidden` [tokens, width] each.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import Examples
from pipeline_lib.models.building import save_tensors
from pipeline_lib.training.batches import collate
from pipeline_lib.training.frozen_backbone.backbone import Backbone, NotCached
from pipeline_lib.util.progress_bar import Bar, bar

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 4096
"""Maximum tokens per forward pass of the backbone; a longer row is a pass of its own."""
FILE = 2**26
"""Bytes after which a new file is started."""
SHARE = 0.25
"""Maximum share of the free disk space to use."""


@dataclass(frozen=True, eq=False)
class CachedFeatures:
    """Backbone outputs of n rows: row i is files[file[i]][begin[i] : begin[i] + lengths[i]]."""

    files: "Sequence[Tensor]"
    file: np.ndarray
    begin: np.ndarray
    lengths: np.ndarray

    @classmethod
    def read(cls, folder: Path, split: str, order: np.ndarray, lengths: np.ndarray) -> "CachedFeatures":
        """Open the cached rows of a split; the files are memory-mapped.

        Args:
            folder: Folder of the files.
            split: Name of the split.
            order: [n] row indices in the order in which they were written.
            lengths: [n] tokens of each row.

        Raises:
            ValueError: The files have another number of tokens.
        """
        from safetensors import safe_open

        files = []
        for path in sorted(folder.glob(f"{split}-*.safetensors")):
            with safe_open(path, "pt") as file:
                files.append(file.get_tensor("hidden"))
        # ends[k] is the number of tokens before file k; `begin` counts over all files, in writing order
        ends = np.cumsum([0, *(len(file) for file in files)])
        begin = np.empty(len(lengths), np.int64)
        begin[order] = np.cumsum(lengths[order]) - lengths[order]
        if ends[-1] != lengths.sum():
            raise ValueError(f"the cache has {ends[-1]} tokens of {split}, and {lengths.sum()} are needed")
        file = np.searchsorted(ends, begin, side="right") - 1
        return cls(files, file, begin - ends[file], lengths)

    @cached_property
    def most(self) -> int:
        """Maximum number of cached tokens of a row."""
        return int(self.lengths.max(initial=1))

    def pad(self, rows: Sequence[int] | np.ndarray, tokens: int) -> "Tensor":
        """Return [rows, tokens, width] with zero padding; fewer tokens if the rows have only one each."""
        lengths, width = self.lengths[rows], self.files[0].shape[1]
        out = self.files[0].new_zeros(len(lengths), min(tokens, self.most), width)
        for index, (file, begin, length) in enumerate(zip(self.file[rows], self.begin[rows], lengths, strict=True)):
            out[index, :length] = self.files[file][begin : begin + length]
        return out


def write_features(backbone: Backbone, splits: Mapping[str, Examples], pad: int, folder: Path) -> None:
    """Compute and cache a backbone's outputs for splits; raises NotCached if the disk does not have enough space."""
    _refuse_too_large(backbone, splits, folder)
    with bar("features", "rows", sum(map(len, splits.values()))) as shown:
        for split, encoded in splits.items():
            for index, hidden in enumerate(_compute_outputs(backbone, encoded, pad, shown)):
                save_tensors({"hidden": hidden}, folder / f"{split}-{index:05d}.safetensors")


def with_features(encoded: Examples, backbone: Backbone, folder: Path, split: str) -> Examples:
    """Add the cached outputs of the backbone to the examples of a split."""
    if not len(encoded):
        return encoded
    return replace(encoded, hidden=CachedFeatures.read(folder, split, _order(encoded), _lengths(backbone, encoded)))


def _compute_outputs(backbone: Backbone, encoded: Examples, pad: int, shown: Bar) -> "Iterator[Tensor]":
    """Yield the outputs of all rows in order, [tokens, width] for each file."""
    import torch

    parts: list[Tensor] = []
    for rows in _group_by_length(encoded):
        batch, _ = collate(encoded, rows, pad, backbone.accelerator.device)
        parts.append(backbone.compute_unpadded(batch).flatten(0, 1).cpu())
        shown.advance(by=len(rows))
        if sum(part.nbytes for part in parts) >= FILE:
            yield torch.cat(parts)
            parts = []
    if parts:
        yield torch.cat(parts)


def _order(encoded: Examples) -> np.ndarray:
    return np.argsort(encoded.ids.lengths, kind="stable")


def _group_by_length(encoded: Examples) -> Iterator[np.ndarray]:
    """Yield all rows in order, split into groups of equal length and at most AT_ONCE tokens."""
    order = _order(encoded)
    lengths = encoded.ids.lengths[order]
    for rows in np.split(order, np.flatnonzero(np.diff(lengths)) + 1) if len(order) else ():
        most = max(1, AT_ONCE // int(encoded.ids.lengths[rows[0]]))
        yield from np.split(rows, range(most, len(rows), most))


def _lengths(backbone: Backbone, encoded: Examples) -> np.ndarray:
    """Return the number of tokens to cache for each row, [n]."""
    return encoded.ids.lengths if backbone.place is None else np.ones(len(encoded), np.int64)


def _refuse_too_large(backbone: Backbone, splits: Mapping[str, Examples], folder: Path) -> None:
    tokens = sum(int(_lengths(backbone, encoded).sum()) for encoded in splits.values())
    size, free = 4 * backbone.model.config.hidden_size * tokens, shutil.disk_usage(folder).free
    if size > SHARE * free:
        raise NotCached(f"{size / 2**30:.1f} GiB are more than a quarter of the {free / 2**30:.1f} GiB of free space")
