"""What a model is fed with, as flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from pipeline_lib.data.target_scale import TargetScale

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor


IGNORED = -100
"""The target of a token that is not learned; transformers' and PyTorch's own mark."""


VIRTUAL = -1000
"""The id of a learned prompt's first virtual token; the next ones lie below it."""


class SplitExamples(NamedTuple):
    """The rows of a split, the names of all labels, and what the model is fed with."""

    rows: "pyarrow.Table"
    labels: list[str]
    encoded: "Examples"
    scale: TargetScale | None = None
    """The scale that the model's outputs are in, where these are numbers."""

    def standardised(self, scale: TargetScale) -> "SplitExamples":
        """The split with standardised targets for the loss; its rows keep their labels as they are."""
        targets = scale.standardised(self.rows["label"].to_numpy())
        return self._replace(encoded=replace(self.encoded, targets=targets), scale=scale)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Lists of integers end to end; list i is values[offsets[i]:offsets[i + 1]]."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, lists: "pyarrow.ChunkedArray | Sequence[Any]", kind: str = "int32") -> "Ragged":
        """From a column of lists, as it stands in a shard or comes from an objective's `encode`."""
        import pyarrow as pa

        if isinstance(lists, pa.ChunkedArray):
            column = lists.combine_chunks()
        else:
            column = pa.array(lists, pa.list_(pa.type_for_alias(kind)))
        return cls(column.flatten().to_numpy(), column.offsets.to_numpy() - column.offsets[0].as_py())

    @cached_property
    def lengths(self) -> np.ndarray:
        """[lists] how long each is."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def longest(self) -> int:
        """How long the longest is."""
        return int(self.lengths.max(initial=1))

    def width(self, rows: Sequence[int] | np.ndarray, multiple: int = 1) -> int:
        """That of the longest of these, rounded up to `multiple`, but never above that of the longest list of all."""
        return min(-(-int(self.lengths[rows].max(initial=1)) // multiple) * multiple, self.longest)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def padded(self, rows: Sequence[int] | np.ndarray, fill: int, multiple: int = 1) -> np.ndarray:
        """[rows, their width] int64, filled on the right."""
        there = np.arange(self.width(rows, multiple)) < self.lengths[rows][:, None]
        out = np.full(there.shape, fill, np.int64)
        out[there] = np.concatenate([self[row] for row in rows]) if len(rows) else []
        return out

    def only(self, keep: np.ndarray) -> "Ragged":
        """Without the values where keep [values] is false."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        return Ragged(self.values[keep], kept[self.offsets])

    def interleaved(self, other: "Ragged") -> "Ragged":
        """The lists of both in turn: the first of these, the first of the others, the second of these ..."""
        lengths = np.stack([self.lengths, other.lengths], axis=1).ravel()
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.empty(offsets[-1], self.values.dtype)
        for side, lists in enumerate((self, other)):
            shift = offsets[side:-1:2] - lists.offsets[:-1]
            values[np.arange(len(lists.values)) + np.repeat(shift, lists.lengths)] = lists.values
        return Ragged(values, offsets)

    def insert(self, at: np.ndarray, values: Sequence[int]) -> "Ragged":
        """The same values put into every list, into list i before its place at[i]."""
        where = np.repeat(self.offsets[:-1] + at, len(values))
        filled = np.insert(self.values, where, np.tile(np.asarray(values, self.values.dtype), len(self)))
        return Ragged(filled, self.offsets + len(values) * np.arange(len(self.offsets)))


class HiddenStates(Protocol):
    """Cached hidden states of inputs."""

    def padded(self, rows: Sequence[int] | np.ndarray, tokens: int) -> "Tensor":
        """[rows, tokens, width] of some inputs, zero behind the end of each."""


@dataclass(frozen=True, eq=False)
class Examples:
    """What the model is fed with: n inputs of token ids, and what it is to put out for each.

    `targets` is [n, ...] with one target an input, or Ragged with one a token: of the input where `aligned`, else of
    an output text of its own. `segments` is None without pairs. `rows` [n] is the row that an input comes from, and
    `losses` [n] how many losses it gives, where these are not as plain as one input a row and one loss a target.

    Inputs whose loss can only be computed together, such as a chosen and a rejected answer, are a group: `group` of
    them follow one another, and they always go through the model in the same batch.
    """

    ids: Ragged
    targets: np.ndarray | Ragged
    segments: Ragged | None = None
    aligned: bool = False
    rows: np.ndarray | None = None
    losses: np.ndarray | None = None
    hidden: HiddenStates | None = None
    """The outputs of the model's frozen backbone for each input, where they are cached."""
    group: int = 1
    """Inputs in a group."""
    reference: Ragged | None = None
    """The reference model's log-probability of each learned token, input by input, where the loss needs it."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self) // self.group

    @cached_property
    def group_tokens(self) -> np.ndarray:
        """[groups] tokens that each group takes in a batch of its own, padding included."""
        return self.group * self.lengths.reshape(-1, self.group).max(axis=1, initial=0)

    def inputs(self, groups: np.ndarray) -> np.ndarray:
        """The inputs of these groups, in their order."""
        return (self.group * groups[:, None] + np.arange(self.group)).ravel()

    @cached_property
    def lengths(self) -> np.ndarray:
        """[n] tokens that go through the model for each input, those of an output text too."""
        apart = isinstance(self.targets, Ragged) and not self.aligned
        return self.ids.lengths + (self.targets.lengths if apart else 0)  # type: ignore[union-attr]

    @property
    def units(self) -> np.ndarray:
        """[groups] how many losses each group gives: one, or one for each target token that is learned."""
        if self.losses is not None:
            return self.losses
        if not isinstance(self.targets, Ragged):
            return np.ones(len(self), np.int64)
        learned = np.concatenate([[0], np.cumsum(self.targets.values >= 0)])
        return learned[self.targets.offsets[1:]] - learned[self.targets.offsets[:-1]]

    def prompted(self, before: int, after: int, deep: bool, *, first: int | None, last: int | None) -> "Examples":
        """With virtual tokens put before and after the text, inside the special tokens `first` and `last`.

        A strategy's module gives their ids their embeddings (`pipeline_lib.strategies.prompt`). Where they are deep,
        an output text of its own gets those before it too.
        """
        begins, ends = self.ids.values[self.ids.offsets[:-1]], self.ids.values[self.ids.offsets[1:] - 1]
        head = np.zeros(len(self), np.int64) if first is None else (begins == first).astype(np.int64)
        tail = self.ids.lengths - (0 if last is None else (ends == last))
        tokens = [VIRTUAL - index for index in range(before + after)]

        def put(what: Ragged, values: Sequence[int]) -> Ragged:
            return what.insert(tail, values[before:]).insert(head, values[:before])

        targets, segments = self.targets, self.segments
        if isinstance(targets, Ragged) and self.aligned:
            targets = put(targets, [IGNORED] * (before + after))
        elif isinstance(targets, Ragged) and deep:
            targets = targets.insert(np.zeros(len(self), np.int64), tokens)
        if segments is not None:
            segments = put(segments, [0] * before + [1] * after)
        return replace(self, ids=put(self.ids, tokens), targets=targets, segments=segments)
