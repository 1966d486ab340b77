"""Examples (token ids, targets and segments) as flat arrays, ready for batching."""

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
"""Target of a token that the loss ignores; the value that transformers and PyTorch use."""


VIRTUAL = -1000
"""Id of the first virtual token of a learned prompt; token i has the id VIRTUAL - i."""


class SplitExamples(NamedTuple):
    """The rows of a split, the names of all labels, and the encoded examples."""

    rows: "pyarrow.Table"
    labels: list[str]
    encoded: "Examples"
    scale: TargetScale | None = None
    """Scale of the standardised targets of a regression; None otherwise."""

    def standardise(self, scale: TargetScale) -> "SplitExamples":
        """Return the split with standardised targets for the loss; the rows keep their original labels."""
        targets = scale.standardise(self.rows["label"].to_numpy())
        return self._replace(encoded=replace(self.encoded, targets=targets), scale=scale)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Concatenated lists of integers; list i is values[offsets[i]:offsets[i + 1]]."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, lists: "pyarrow.ChunkedArray | Sequence[Any]", kind: str = "int32") -> "Ragged":
        """Build from a column of lists, read from a shard or returned by an objective's `encode`."""
        import pyarrow as pa

        if isinstance(lists, pa.ChunkedArray):
            column = lists.combine_chunks()
        else:
            column = pa.array(lists, pa.list_(pa.type_for_alias(kind)))
        # A sliced column keeps its original offsets, which need not start at 0; flatten() drops the unused values.
        return cls(column.flatten().to_numpy(), column.offsets.to_numpy() - column.offsets[0].as_py())

    @cached_property
    def lengths(self) -> np.ndarray:
        """[lists] length of each list."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def longest(self) -> int:
        """Length of the longest list, at least 1."""
        return int(self.lengths.max(initial=1))

    def width(self, rows: Sequence[int] | np.ndarray, multiple: int = 1) -> int:
        """Return the longest length among `rows`, rounded up to `multiple` but at most the longest of all lists."""
        return min(-(-int(self.lengths[rows].max(initial=1)) // multiple) * multiple, self.longest)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def pad(self, rows: Sequence[int] | np.ndarray, fill: int, multiple: int = 1) -> np.ndarray:
        """Return the lists as int64 [rows, width], padded on the right with `fill`."""
        used = np.arange(self.width(rows, multiple)) < self.lengths[rows][:, None]
        out = np.full(used.shape, fill, np.int64)
        # Boolean indexing walks row by row, so the concatenated lists fill each row from the left.
        out[used] = np.concatenate([self[row] for row in rows]) if len(rows) else []
        return out

    def select_values(self, keep: np.ndarray) -> "Ragged":
        """Return the lists without the values where the mask keep [values] is false."""
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return Ragged(self.values[keep], kept_before[self.offsets])

    def interleave(self, other: "Ragged") -> "Ragged":
        """Return the lists of both alternately: self[0], other[0], self[1], other[1], ..."""
        lengths = np.stack([self.lengths, other.lengths], axis=1).ravel()
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.empty(offsets[-1], self.values.dtype)
        for side, lists in enumerate((self, other)):
            # List i of this side becomes list 2 i + side; `shift` is how far its values move to the right.
            shift = offsets[side:-1:2] - lists.offsets[:-1]
            values[np.arange(len(lists.values)) + np.repeat(shift, lists.lengths)] = lists.values
        return Ragged(values, offsets)

    def insert(self, at: np.ndarray, values: Sequence[int]) -> "Ragged":
        """Return the lists with the same values inserted into each, before position at[i] of list i."""
        positions = np.repeat(self.offsets[:-1] + at, len(values))
        filled = np.insert(self.values, positions, np.tile(np.asarray(values, self.values.dtype), len(self)))
        return Ragged(filled, self.offsets + len(values) * np.arange(len(self.offsets)))


class HiddenStates(Protocol):
    """Cached hidden states of the inputs."""

    def pad(self, rows: Sequence[int] | np.ndarray, tokens: int) -> "Tensor":
        """Return the hidden states of some inputs [rows, tokens, width], padded with zeros."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and targets of a model: n inputs of token ids, and a target for each.

    `targets` is [n, ...] with one target per input, or Ragged with one target per token: of the input itself if
    `aligned`, else of a separate output text. `segments` is None unless inputs are text pairs. `rows` [n] is the row
    an input comes from, None if each row has one input. `losses` [groups] is the number of loss terms of each group,
    None if each target is one term.

    Inputs whose loss must be computed together, such as a chosen and a rejected answer, form a group: `group`
    consecutive inputs, which are always in the same batch.
    """

    ids: Ragged
    targets: np.ndarray | Ragged
    segments: Ragged | None = None
    aligned: bool = False
    rows: np.ndarray | None = None
    losses: np.ndarray | None = None
    hidden: HiddenStates | None = None
    """Cached outputs of the frozen backbone for each input, if there are any."""
    group: int = 1
    """Number of inputs in a group."""
    reference: Ragged | None = None
    """Log-probability of each learned token under the reference model, per input, if the loss needs it."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self) // self.group

    @cached_property
    def group_tokens(self) -> np.ndarray:
        """[groups] number of tokens of each group in a batch of its own, including padding."""
        return self.group * self.lengths.reshape(-1, self.group).max(axis=1, initial=0)

    def inputs(self, groups: np.ndarray) -> np.ndarray:
        """Return the indices of the inputs in these groups, in order."""
        return (self.group * groups[:, None] + np.arange(self.group)).ravel()

    @cached_property
    def lengths(self) -> np.ndarray:
        """[n] number of tokens the model processes for each input, including those of a separate output text."""
        has_output_text = isinstance(self.targets, Ragged) and not self.aligned
        return self.ids.lengths + (self.targets.lengths if has_output_text else 0)  # type: ignore[union-attr]

    @property
    def units(self) -> np.ndarray:
        """[groups] number of loss terms of each group: one, or one per learned target token."""
        if self.losses is not None:
            return self.losses
        if not isinstance(self.targets, Ragged):
            return np.ones(len(self), np.int64)
        # learned_before[i] counts the learned tokens among the first i values; differences count them per list.
        learned_before = np.concatenate([[0], np.cumsum(self.targets.values >= 0)])
        return learned_before[self.targets.offsets[1:]] - learned_before[self.targets.offsets[:-1]]

    def insert_prompt(self, before: int, after: int, deep: bool, *, first: int | None, last: int | None) -> "Examples":
        """Return the examples with virtual tokens before and after the text.

        The module of a strategy embeds their ids (`pipeline_lib.strategies.prompt`).

        Args:
            before: Number of virtual tokens before the text.
            after: Number of virtual tokens after the text.
            deep: Whether a separate output text also starts with the virtual tokens.
            first: Special token that stays in front of the virtual tokens where an input starts with it.
            last: Special token that stays behind them where an input ends with it.
        """
        first_ids = self.ids.values[self.ids.offsets[:-1]]
        last_ids = self.ids.values[self.ids.offsets[1:] - 1]
        # Insert positions within each input: after its leading special token, and before its trailing one.
        head = np.zeros(len(self), np.int64) if first is None else (first_ids == first).astype(np.int64)
        tail = self.ids.lengths - (0 if last is None else (last_ids == last))
        tokens = [VIRTUAL - index for index in range(before + after)]

        def insert_tokens(lists: Ragged, values: Sequence[int]) -> Ragged:
            # The tail first: inserting at the head would move the tail's positions.
            return lists.insert(tail, values[before:]).insert(head, values[:before])

        targets, segments = self.targets, self.segments
        if isinstance(targets, Ragged) and self.aligned:
            targets = insert_tokens(targets, [IGNORED] * (before + after))
        elif isinstance(targets, Ragged) and deep:
            targets = targets.insert(np.zeros(len(self), np.int64), tokens)
        if segments is not None:
            segments = insert_tokens(segments, [0] * before + [1] * after)
        return replace(self, ids=insert_tokens(self.ids, tokens), targets=targets, segments=segments)
