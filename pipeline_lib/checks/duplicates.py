"""Rows that stand in two splits, exactly or nearly, and rows that repeat one another."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline_lib.checks.findings import SHOWN, Finding, share

if TYPE_CHECKING:
    from pipeline_lib.objectives import Objective

BEFORE = {"validation": ("train",), "test": ("train", "validation")}
"""What a model has learned from, or was picked by, before the rows of a split are to judge it."""
REPEATED = 0.05
SHINGLE, ALIKE = 4, 0.8
"""Characters of a shingle, and the share of shingles that makes two texts nearly one."""
BANDS, IN_A_BAND = 20, 5
"""Two texts that share 0.8 of their shingles meet in a band with 0.9996, those that share 0.3 with 0.05."""
BUCKET = 10
"""Training rows of a bucket that a row is compared with."""
CHUNK = 5000
"""Texts that are hashed at once, so that memory stays flat."""
PLACE = ["file", "line"]
MEND = "Take them out of one side, or give one file and let data.split share it out"

Splits = Mapping[str, pa.Table]
"""Rows by split, with the file and line of each."""
Texts = Mapping[str, Sequence[str]]
"""What the rows ask, by split."""


def texts(objective: "Objective", rows: pa.Table, more: Sequence[str] = ()) -> list[str]:
    """What a row asks, as one text a row: in Unicode's compatible form, without case, with single spaces.

    `more` names roles that are added, as far as the rows have them.
    """
    roles = [role for role in objective.input_roles if role in rows.column_names] or [*objective.dedup_keys]
    roles += [role for role in more if role in rows.column_names]
    columns = zip(*(rows[role].to_pylist() for role in roles), strict=True)
    return [normal("\n".join(map(_plain, values))) for values in columns]


def normal(text: str) -> str:
    """A text without what does not make it another one."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def duplicates(splits: Splits, read: Texts) -> Iterator[Finding]:
    """Rows that stand in an earlier split too."""
    for name in BEFORE:
        first = {text: row for row, text in reversed([*enumerate(_seen(name, read))])}
        pairs = {row: first[text] for row, text in enumerate(read[name]) if text in first}
        yield from _found("duplicates", "stand in", pairs, name, splits, read)


def near_duplicates(splits: Splits, read: Texts) -> Iterator[Finding]:
    """Rows that nearly are one of an earlier split, without those that are one."""
    for name in BEFORE:
        seen = _seen(name, read)
        known = set(seen)
        rows = [row for row, text in enumerate(read[name]) if text not in known]
        pairs = {rows[row]: other for row, other in near(seen, [read[name][row] for row in rows]).items()}
        yield from _found("near_duplicates", "nearly stand in", pairs, name, splits, read)


def _seen(name: str, read: Texts) -> list[str]:
    return [text for before in BEFORE[name] for text in read[before]]


def _found(check: str, how: str, pairs: Mapping[int, int], name: str, splits: Splits, read: Texts) -> Iterator[Finding]:
    if pairs:
        said = {"train": "training", "validation": "validation"}
        where = " or ".join(said[before] for before in BEFORE[name] if read[before])
        problem = f"{share(len(pairs), len(read[name]))} {name} rows {how} the {where} rows too"
        theirs = pa.concat_tables([splits[before].select(PLACE) for before in BEFORE[name]])
        yield Finding(check, len(pairs), len(read[name]), problem, MEND, name, _examples(splits[name], theirs, pairs))


def repeats(splits: Splits, read: Texts) -> Iterator[Finding]:
    """Training rows that repeat another one."""
    rows, first, pairs = read["train"], dict[str, int](), dict[int, int]()
    for row, text in enumerate(rows):
        if (known := first.setdefault(text, row)) != row:
            pairs[row] = known
    if len(pairs) >= REPEATED * len(rows) and pairs:
        problem = f"{share(len(pairs), len(rows))} training rows are duplicates and count twice"
        hint = "Remove them, unless they are meant to count more"
        yield Finding(
            "repeats", len(pairs), len(rows), problem, hint, "train", _examples(splits["train"], splits["train"], pairs)
        )


def near(learned: Sequence[str], held: Sequence[str]) -> dict[int, int]:
    """Index of a held text -> of a learned one with which it shares ALIKE of all their shingles (Jaccard).

    MinHash (Broder 1997, "On the resemblance and containment of documents") with bands (Leskovec, Rajaraman and
    Ullman 2014, "Mining of Massive Datasets", section 3.4.2) finds the candidates; the likeliest of each text is
    compared shingle by shingle. Texts of fewer than SHINGLE characters have none.
    """
    ours, theirs = ([row for row, text in enumerate(some) if len(text) >= SHINGLE] for some in (held, learned))
    if not ours or not theirs:
        return {}
    candidates = _likeliest(_signatures([held[row] for row in ours]), _signatures([learned[row] for row in theirs]))
    pairs = {ours[row]: theirs[other] for row, other in enumerate(candidates.tolist()) if other >= 0}
    return {row: other for row, other in pairs.items() if jaccard(held[row], learned[other]) >= ALIKE}


def jaccard(one: str, other: str) -> float:
    """The share of all shingles of two texts that both have, in [0, 1]."""
    first, second = ({text[at : at + SHINGLE] for at in range(len(text) - SHINGLE + 1)} for text in (one, other))
    return len(first & second) / max(1, len(first | second))


def _signatures(some: Sequence[str]) -> np.ndarray:
    """[texts, BANDS * IN_A_BAND] uint32: the least hash of a text's shingles, by each of the hash functions."""
    return np.concatenate([_hashed(some[at : at + CHUNK]) for at in range(0, len(some), CHUNK)])


def _hashed(some: Sequence[str]) -> np.ndarray:
    random = np.random.default_rng(0)
    factors = random.integers(0, 2**64, (SHINGLE, 1), np.uint64) | np.uint64(1)
    codes = np.frombuffer("".join(some).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    shingles = (np.lib.stride_tricks.sliding_window_view(codes, SHINGLE) @ factors).ravel()
    lengths = np.array([len(text) for text in some])
    inside = np.ones(len(shingles), bool)
    for back in range(1, SHINGLE):  # no shingle goes across two texts
        inside[np.cumsum(lengths)[:-1] - back] = False
    firsts = np.cumsum([0, *(lengths[:-1] - SHINGLE + 1)])
    pairs = random.integers(0, 2**64, (BANDS * IN_A_BAND, 2), np.uint64)
    least = (
        np.minimum.reduceat((shingles[inside] * (factor | np.uint64(1)) + shift) >> np.uint64(32), firsts)
        for factor, shift in pairs
    )
    return np.stack([*least], axis=1).astype(np.uint32)


def _likeliest(held: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """[held] the row of `learned` whose signature agrees best among those that share a band; -1 where none does."""
    best, who = np.zeros(len(held)), np.full(len(held), -1)
    for band in range(0, held.shape[1], IN_A_BAND):
        ours, theirs = (_buckets(some[:, band : band + IN_A_BAND]) for some in (held, learned))
        order = np.argsort(theirs, kind="stable")
        begin, end = (np.searchsorted(theirs[order], ours, side) for side in ("left", "right"))  # type: ignore[call-overload]
        for place in range(min(BUCKET, int((end - begin).max(initial=0)))):
            rows = np.flatnonzero(begin + place < end)
            others = order[begin[rows] + place]
            alike = (held[rows] == learned[others]).mean(axis=1)
            better = alike > best[rows]
            best[rows[better]], who[rows[better]] = alike[better], others[better]
    return who


def _buckets(band: np.ndarray) -> np.ndarray:
    """[rows] one number for the values of a band."""
    factors = np.random.default_rng(1).integers(0, 2**64, band.shape[1], np.uint64) | np.uint64(1)
    return (band.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)


def _plain(value: Any) -> str:
    """Lists of words and of messages as they are read."""
    if isinstance(value, list):
        return " ".join(each["content"] if isinstance(each, dict) else str(each) for each in value)
    return "" if value is None else str(value)


def _examples(ours: pa.Table, theirs: pa.Table, pairs: Mapping[int, int]) -> list[dict[str, Any]]:
    return [{**_place(ours, row), "as": _place(theirs, other)} for row, other in sorted(pairs.items())[:SHOWN]]


def _place(rows: pa.Table, row: int) -> dict[str, Any]:
    return {name: rows[name][row].as_py() for name in PLACE}
