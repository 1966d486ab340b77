"""What a trunk has put out for all rows, kept as safetensors: only real tokens, rows sorted by length.

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
"""Tokens that go through the trunk together at most, a longer row aside."""
FILE = 2**26
"""Bytes after which a new file begins."""
SHARE = 0.25
"""The share of the disk's free room that may be taken."""


@dataclass(frozen=True, eq=False)
class CachedFeatures:
    """What the trunk puts out for n rows: row i is files[file[i]][begin[i]:begin[i] + lengths[i]]."""

    files: "Sequence[Tensor]"
    file: np.ndarray
    begin: np.ndarray
    lengths: np.ndarray

    @classmethod
    def read(cls, folder: Path, split: str, order: np.ndarray, lengths: np.ndarray) -> "CachedFeatures":
        """The rows of a split, written in `order`, `lengths` [n] tokens each; files are mapped, not read at once."""
        from safetensors import safe_open

        files = []
        for path in sorted(folder.glob(f"{split}-*.safetensors")):
            with safe_open(path, "pt") as file:
                files.append(file.get_tensor("hidden"))
        ends = np.cumsum([0, *(len(file) for file in files)])
        begin = np.empty(len(lengths), np.int64)
        begin[order] = np.cumsum(lengths[order]) - lengths[order]
        if ends[-1] != lengths.sum():
            raise ValueError(f"the trunk keeps {ends[-1]} tokens of {split}, and {lengths.sum()} are asked for")
        file = np.searchsorted(ends, begin, side="right") - 1
        return cls(files, file, begin - ends[file], lengths)

    @cached_property
    def most(self) -> int:
        """How many tokens a row keeps at most."""
        return int(self.lengths.max(initial=1))

    def padded(self, rows: Sequence[int] | np.ndarray, tokens: int) -> "Tensor":
        """[rows, tokens, width], or fewer tokens where the rows keep one each; zero behind a row's end."""
        lengths, width = self.lengths[rows], self.files[0].shape[1]
        out = self.files[0].new_zeros(len(lengths), min(tokens, self.most), width)
        for index, (file, begin, length) in enumerate(zip(self.file[rows], self.begin[rows], lengths, strict=True)):
            out[index, :length] = self.files[file][begin : begin + length]
        return out


def write_features(trunk: Backbone, splits: Mapping[str, Examples], pad: int, folder: Path) -> None:
    """Compute and keep what a trunk puts out for splits; raises NotKept where the disk has not the room for it."""
    _refuse_too_large(trunk, splits, folder)
    with bar("features", sum(map(len, splits.values()))) as shown:
        for split, encoded in splits.items():
            for index, hidden in enumerate(_computed(trunk, encoded, pad, shown)):
                save_tensors({"hidden": hidden}, folder / f"{split}-{index:05d}.safetensors")


def with_features(encoded: Examples, trunk: Backbone, folder: Path, split: str) -> Examples:
    """Rows with what their trunk has put out."""
    if not len(encoded):
        return encoded
    return replace(encoded, hidden=CachedFeatures.read(folder, split, _order(encoded), _lengths(trunk, encoded)))


def _computed(trunk: Backbone, encoded: Examples, pad: int, shown: Bar) -> "Iterator[Tensor]":
    """[tokens, width] of all rows in order, a file's worth at a time."""
    import torch

    parts: list[Tensor] = []
    for rows in _equally_long(encoded):
        batch, _ = collate(encoded, rows, pad, trunk.accelerator.device)
        parts.append(trunk.unpadded(batch).flatten(0, 1).cpu())
        shown.advance(by=len(rows))
        if sum(part.nbytes for part in parts) >= FILE:
            yield torch.cat(parts)
            parts = []
    if parts:
        yield torch.cat(parts)


def _order(encoded: Examples) -> np.ndarray:
    return np.argsort(encoded.ids.lengths, kind="stable")


def _equally_long(encoded: Examples) -> Iterator[np.ndarray]:
    """All rows in order, cut where the length changes and where they are too many to compute at once."""
    order = _order(encoded)
    lengths = encoded.ids.lengths[order]
    for rows in np.split(order, np.flatnonzero(np.diff(lengths)) + 1) if len(order) else ():
        most = max(1, AT_ONCE // int(encoded.ids.lengths[rows[0]]))
        yield from np.split(rows, range(most, len(rows), most))


def _lengths(trunk: Backbone, encoded: Examples) -> np.ndarray:
    """[n] how many tokens of each row are kept."""
    return encoded.ids.lengths if trunk.place is None else np.ones(len(encoded), np.int64)


def _refuse_too_large(trunk: Backbone, splits: Mapping[str, Examples], folder: Path) -> None:
    tokens = sum(int(_lengths(trunk, encoded).sum()) for encoded in splits.values())
    size, free = 4 * trunk.model.config.hidden_size * tokens, shutil.disk_usage(folder).free
    if size > SHARE * free:
        raise NotCached(f"{size / 2**30:.1f} GiB are more than a quarter of the {free / 2**30:.1f} GiB that are free")
