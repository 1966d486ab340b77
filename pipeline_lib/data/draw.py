"""Which rows are set aside for validation and test: a draw by hash, that grows with the data and never parts equals."""

from collections.abc import Mapping

import numpy as np

REST = 0
"""What a row is that no share has taken."""


def draw(keys: np.ndarray, shares: Mapping[int, float], strata: np.ndarray | None, seed: int) -> np.ndarray:
    """Which share takes each row [rows] int8: in each stratum the lowest keys go to the first share, the next to the
    second, and so on.

    keys: [rows] uint64, equal for rows that must stay together. strata: [rows] labels, or None for one stratum;
    where no label has enough rows for strata, as in regression, there is one. Rows of one key that differ in their
    label are all of the stratum of the first label, so that they stay together too.
    """
    taken = np.full(len(keys), REST, np.int8)
    mixed = _mixed(keys, seed)
    groups = _groups(None if strata is None else _of_key(keys, strata), len(keys))
    for rows in groups:
        ordered = np.sort(mixed[rows])
        begin = 0
        for code, share in shares.items():
            end = min(begin + round(share * len(rows)), len(rows))
            if end > begin:
                low, high = ordered[begin], ordered[end - 1]
                taken[rows[(mixed[rows] >= low) & (mixed[rows] <= high) & (taken[rows] == REST)]] = code
            begin = end
    return taken


def _mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """The keys permuted, another way for every seed, so that draws have no more in common than chance has.

    SplitMix64's step and finalizer (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = keys + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _of_key(keys: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """[rows] the lowest label of all rows that share the row's key."""
    order = np.lexsort((strata, keys))
    begins = _begins(keys[order])
    labels = np.empty_like(strata)
    labels[order] = np.repeat(strata[order[begins]], np.diff(np.append(begins, len(keys))))
    return labels


def _groups(strata: np.ndarray | None, rows: int) -> list[np.ndarray]:
    if strata is None:
        return [np.arange(rows)]
    order = np.argsort(strata, kind="stable")
    begins = _begins(strata[order])
    return [order] if len(begins) > rows / 5 else np.split(order, begins[1:])


def _begins(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins; empty where there are none."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
