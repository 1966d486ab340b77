"""Assign rows to splits by hash: equal rows stay together, and new data does not move existing rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

REST = 0
"""Code of rows that no share has taken."""
UNLABELLED = -1
POOLED = -2
"""Additional strata: groups without a label, and the pooled groups of labels too small for shares of their own."""


@dataclass(frozen=True)
class RowLabels:
    """Labels as pairs: row rows[i] has the label labels[i]. A row may have none, one or several."""

    rows: np.ndarray
    labels: np.ndarray

    @classmethod
    def one_each(cls, labels: np.ndarray) -> "RowLabels":
        """Build from one label per row."""
        return cls(np.arange(len(labels)), labels)


@dataclass(frozen=True)
class _Groups:
    """Groups of rows with the same key, which stay together; sorted by their hash, the order of the draw."""

    of_row: np.ndarray
    """[rows] index of each row's group."""
    sizes: np.ndarray
    """[groups] number of rows in each group."""


def draw_splits(
    keys: np.ndarray,
    shares: Mapping[int, float],
    labels: RowLabels | None,
    seed: int,
    *,
    stratify: bool = True,
    keep_last: bool = True,
) -> np.ndarray:
    """Assign each row to a split.

    In each stratum the groups with the lowest hashes go to the first split, the next ones to the second, and so on.
    A stratum is a label. If a group has several labels, the rarest decides, as in iterative stratification (Sechidis,
    Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data"). Unlike theirs, the assignment depends on
    the rows' hashes and not on their order, so new rows do not move existing ones. Labels too small to give each
    split a row are pooled.

    Args:
        keys: [rows] uint64, equal for rows that must stay together.
        shares: Share of all rows that each split takes, by the split's code.
        labels: Labels of the rows, or None for one stratum.
        seed: Seed of the draw.
        stratify: Whether to take the shares from each label separately; else there is one stratum.
        keep_last: Whether to leave at least one group of every label in the rest, so that no label disappears from it.

    Returns:
        [rows] int8, the code of each row's split, REST for rows that no split takes.
    """
    groups = _groups(keys, seed)
    drawn = np.full(len(groups.sizes), REST, np.int8)
    strata = np.zeros(len(groups.sizes), np.int64)
    reserved = np.zeros(len(groups.sizes), bool)
    if labels is not None and len(labels.rows):
        owners, names = _pairs(groups, labels)
        if stratify:
            strata = _rarest(owners, names, len(groups.sizes))
            strata = np.where(_too_small(strata, groups.sizes, shares), POOLED, strata)
        if keep_last:
            reserved = _is_last_of_each(owners, names, len(groups.sizes))
    order = np.argsort(strata, kind="stable")  # stable: keeps the order of the draw within a stratum
    for members in np.split(order, _find_run_starts(strata[order])[1:]):
        _assign_stratum(drawn, members, groups.sizes, reserved, shares)
    return drawn[groups.of_row]


def _groups(keys: np.ndarray, seed: int) -> _Groups:
    """Group rows by key; `np.unique` also sorts the groups by their hash."""
    _, of_row, sizes = np.unique(_mix_keys(keys, seed), return_inverse=True, return_counts=True)
    return _Groups(of_row.reshape(-1), sizes)


def _mix_keys(keys: np.ndarray, seed: int) -> np.ndarray:
    """Permute the keys differently for every seed, so that draws with different seeds are independent.

    SplitMix64's step and finalizer (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = keys + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _pairs(groups: _Groups, labels: RowLabels) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct pairs of a group and a label of one of its rows, with labels as indices in sorted order."""
    names = np.unique(labels.labels, return_inverse=True)[1].reshape(-1)
    pairs = np.unique(np.stack([groups.of_row[labels.rows], names]), axis=1)
    return pairs[0], pairs[1]


def _rarest(owners: np.ndarray, names: np.ndarray, groups: int) -> np.ndarray:
    """Return the rarest label of each group [groups], counted by groups; UNLABELLED for groups without a label."""
    counts = np.bincount(names)
    # lexsort's last key is the primary one: by group, then by frequency of the label, then by label.
    order = np.lexsort((names, counts[names], owners))
    first = order[_find_run_starts(owners[order])]
    rarest = np.full(groups, UNLABELLED, np.int64)
    rarest[owners[first]] = names[first]
    return rarest


def _too_small(strata: np.ndarray, sizes: np.ndarray, shares: Mapping[int, float]) -> np.ndarray:
    """Return for each group [groups] whether its stratum has too few rows to give every share at least one."""
    if not shares:
        return np.zeros(len(strata), bool)
    stratum, of_group = np.unique(strata, return_inverse=True)
    rows = np.bincount(of_group.reshape(-1), weights=sizes, minlength=len(stratum))
    smallest = min((share for share in shares.values() if share > 0), default=0.0)
    if not smallest:
        return np.zeros(len(strata), bool)
    return (np.round(smallest * rows) < 1)[of_group.reshape(-1)]


def _is_last_of_each(owners: np.ndarray, names: np.ndarray, groups: int) -> np.ndarray:
    """Return for each group [groups] whether it is reserved for the rest.

    Reserves the last group of each label in the order of the draw. Rare labels go first, and a label that already
    occurs in a reserved group needs no other.
    """
    reserved = np.zeros(groups, bool)
    order = np.lexsort((owners, names))
    groups_by_label = np.split(owners[order], _find_run_starts(names[order])[1:])
    for members in sorted(groups_by_label, key=len):
        if not reserved[members].any():
            reserved[members[-1]] = True
    return reserved


def _assign_stratum(
    drawn: np.ndarray, members: np.ndarray, sizes: np.ndarray, reserved: np.ndarray, shares: Mapping[int, float]
) -> None:
    """Assign the groups of one stratum to the shares, in place; scale the shares down if there are too few rows."""
    rows, free = int(sizes[members].sum()), members[~reserved[members]]
    wanted = {code: round(share * rows) for code, share in shares.items()}
    available, requested = int(sizes[free].sum()), sum(wanted.values())
    begins = np.cumsum(sizes[free]) - sizes[free]  # number of rows before each group
    end = 0.0
    for code, count in wanted.items():
        end += count if requested <= available else count * available / requested
        # A group goes to a share if it starts before the share's end, and no earlier share has taken it.
        drawn[free[(begins < end) & (drawn[free] == REST)]] = code


def _find_run_starts(ordered: np.ndarray) -> np.ndarray:
    """Return the indices where runs of equal values start; empty for an empty array."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
