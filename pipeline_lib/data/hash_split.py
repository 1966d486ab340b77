"""Which rows are set aside for validation and test: a draw by hash, that grows with the data and never parts equals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

REST = 0
"""What a row is that no share has taken."""
UNLABELLED = -1
POOLED = -2
"""Strata of their own: groups without a label, and groups of the labels that are too small to have a share each."""


@dataclass(frozen=True)
class RowLabels:
    """The labels of all rows as pairs: rows[i] has the label labels[i]. A row may have none, one or several."""

    rows: np.ndarray
    labels: np.ndarray

    @classmethod
    def one_each(cls, labels: np.ndarray) -> "RowLabels":
        """One label a row."""
        return cls(np.arange(len(labels)), labels)


@dataclass(frozen=True)
class _Groups:
    """Rows of one key: they stay together. Groups are in the order of the draw."""

    of_row: np.ndarray
    """[rows] the place of each row's group."""
    sizes: np.ndarray
    """[groups] how many rows each has."""


def draw_splits(
    keys: np.ndarray,
    shares: Mapping[int, float],
    labels: RowLabels | None,
    seed: int,
    *,
    stratify: bool = True,
    keep_last: bool = True,
) -> np.ndarray:
    """Which share takes each row [rows] int8: in each stratum the lowest keys go to the first share, the next to the
    second, and so on.

    A stratum is a label: of several labels the rarest decides, as in iterative stratification (Sechidis, Tsoumakas
    and Vlahavas 2011, "On the stratification of multi-label data"), which begins with the rarest label too. Theirs
    goes by the order of rows, ours by their hash, so that new rows leave old rows where they were. Labels that are too
    small to give each share a row give their shares jointly.

    Args:
        keys: [rows] uint64, equal for rows that must stay together.
        shares: What each split takes of all rows, by the split's code.
        labels: Labels of the rows, or None for one stratum.
        seed: Another seed draws other rows.
        stratify: Whether each label gives its share; else there is one stratum.
        keep_last: Whether every label keeps its last group of rows, so that none vanishes from the rest.
    """
    groups = _groups(keys, seed)
    drawn = np.full(len(groups.sizes), REST, np.int8)
    strata = np.zeros(len(groups.sizes), np.int64)
    kept = np.zeros(len(groups.sizes), bool)
    if labels is not None and len(labels.rows):
        owners, names = _pairs(groups, labels)
        if stratify:
            strata = _rarest(owners, names, len(groups.sizes))
            strata = np.where(_too_small(strata, groups.sizes, shares), POOLED, strata)
        if keep_last:
            kept = _last_of_each(owners, names, len(groups.sizes))
    order = np.argsort(strata, kind="stable")  # within a stratum the order of the draw
    for members in np.split(order, _begins(strata[order])[1:]):
        _share_out(drawn, members, groups.sizes, kept, shares)
    return drawn[groups.of_row]


def _groups(keys: np.ndarray, seed: int) -> _Groups:
    _, of_row, sizes = np.unique(_mixed(keys, seed), return_inverse=True, return_counts=True)
    return _Groups(of_row.reshape(-1), sizes)


def _mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """The keys permuted, another way for every seed, so that draws have no more in common than chance has.

    SplitMix64's step and finalizer (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = keys + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _pairs(groups: _Groups, labels: RowLabels) -> tuple[np.ndarray, np.ndarray]:
    """Each group with each label that one of its rows has, once; labels as places in the alphabet."""
    names = np.unique(labels.labels, return_inverse=True)[1].reshape(-1)
    pairs = np.unique(np.stack([groups.of_row[labels.rows], names]), axis=1)
    return pairs[0], pairs[1]


def _rarest(owners: np.ndarray, names: np.ndarray, groups: int) -> np.ndarray:
    """[groups] the label that the fewest groups have, of those that each has."""
    counts = np.bincount(names)
    order = np.lexsort((names, counts[names], owners))
    first = order[_begins(owners[order])]
    rarest = np.full(groups, UNLABELLED, np.int64)
    rarest[owners[first]] = names[first]
    return rarest


def _too_small(strata: np.ndarray, sizes: np.ndarray, shares: Mapping[int, float]) -> np.ndarray:
    """[groups] whether the group's stratum has too few rows to give every share one."""
    if not shares:
        return np.zeros(len(strata), bool)
    stratum, of_group = np.unique(strata, return_inverse=True)
    rows = np.bincount(of_group.reshape(-1), weights=sizes, minlength=len(stratum))
    smallest = min((share for share in shares.values() if share > 0), default=0.0)
    return (np.round(smallest * rows) < 1)[of_group.reshape(-1)] if smallest else np.zeros(len(strata), bool)


def _last_of_each(owners: np.ndarray, names: np.ndarray, groups: int) -> np.ndarray:
    """[groups] whether a group is kept from every share: of each label the last one in the order of the draw.

    Rare labels choose first; a label that a chosen group has needs no other.
    """
    kept = np.zeros(groups, bool)
    order = np.lexsort((owners, names))
    of_name = np.split(owners[order], _begins(names[order])[1:])
    for having in sorted(of_name, key=len):
        if not kept[having].any():
            kept[having[-1]] = True
    return kept


def _share_out(
    drawn: np.ndarray, members: np.ndarray, sizes: np.ndarray, kept: np.ndarray, shares: Mapping[int, float]
) -> None:
    """Give each share of one stratum its groups; what falls short of all shares together is divided among them."""
    rows, free = int(sizes[members].sum()), members[~kept[members]]
    wanted = {code: round(share * rows) for code, share in shares.items()}
    there, asked = int(sizes[free].sum()), sum(wanted.values())
    begins = np.cumsum(sizes[free]) - sizes[free]
    end = 0.0
    for code, count in wanted.items():
        end += count if asked <= there else count * there / asked
        drawn[free[(begins < end) & (drawn[free] == REST)]] = code


def _begins(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins; empty where there are none."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
