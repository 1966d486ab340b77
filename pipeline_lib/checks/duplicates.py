"""Find exact and near duplicates across splits, and repeated training rows."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline_lib.checks.findings import SHOWN, Finding, format_share

if TYPE_CHECKING:
    from pipeline_lib.objectives import Objective

BEFORE = {"validation": ("train",), "test": ("train", "validation")}
"""Splits that a model was trained on or selected by before it is evaluated on the rows of a split."""
REPEATED = 0.05
"""Share of repeated training rows from which they are reported."""
SHINGLE, ALIKE = 4, 0.8
"""Characters of a shingle, and the share of common shingles that makes two texts near duplicates."""
BANDS, IN_A_BAND = 20, 5
"""Probability to share a band: 0.9996 for texts with 0.8 of their shingles in common, 0.05 for texts with 0.3."""
BUCKET = 10
"""Rows of a bucket that a row is compared with."""
CHUNK = 5000
"""Texts hashed per batch, to limit memory."""
LOCATION = ["file", "line"]
HINT = "Remove them from one side, or give a single file and let data.split divide it"

Splits = Mapping[str, pa.Table]
"""Rows by split, with the file and line of each."""
Texts = Mapping[str, Sequence[str]]
"""Normalized input texts of the rows, by split."""


def normalized_inputs(objective: "Objective", rows: pa.Table, more: Sequence[str] = ()) -> list[str]:
    """The normalized input of each row as one text.

    Args:
        objective: The objective, which knows the roles of inputs.
        rows: The rows of a split.
        more: Roles to add to the inputs, if the rows have them.
    """
    roles = [role for role in objective.input_roles if role in rows.column_names] or [*objective.dedup_keys]
    roles += [role for role in more if role in rows.column_names]
    columns = zip(*(rows[role].to_pylist() for role in roles), strict=True)
    return [normalize_text("\n".join(map(_to_text, values))) for values in columns]


def normalize_text(text: str) -> str:
    """Normalize a text for comparison: Unicode form NFKC, case-folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def duplicates(splits: Splits, inputs: Texts) -> Iterator[Finding]:
    """Find rows that also appear in an earlier split."""
    for name in BEFORE:
        # reversed, so that the first row with a text wins
        first = {text: row for row, text in reversed([*enumerate(_earlier_texts(name, inputs))])}
        pairs = {row: first[text] for row, text in enumerate(inputs[name]) if text in first}
        yield from _report_pairs("duplicates", "also appear in", pairs, name, splits, inputs)


def near_duplicates(splits: Splits, inputs: Texts) -> Iterator[Finding]:
    """Find rows that are near duplicates, but not exact ones, of rows in an earlier split."""
    for name in BEFORE:
        earlier = _earlier_texts(name, inputs)
        exact = set(earlier)
        rows = [row for row, text in enumerate(inputs[name]) if text not in exact]
        found = pair_near_duplicates(earlier, [inputs[name][row] for row in rows])
        pairs = {rows[index]: other for index, other in found.items()}  # from an index into `rows` to a row
        yield from _report_pairs("near_duplicates", "are near duplicates of rows in", pairs, name, splits, inputs)


def _earlier_texts(name: str, inputs: Texts) -> list[str]:
    return [text for before in BEFORE[name] for text in inputs[before]]


def _report_pairs(
    check: str, relation: str, pairs: Mapping[int, int], name: str, splits: Splits, inputs: Texts
) -> Iterator[Finding]:
    """The finding for rows of a split that are paired with rows of earlier splits; nothing without pairs."""
    if pairs:
        adjectives = {"train": "training", "validation": "validation"}
        earlier = " or ".join(adjectives[before] for before in BEFORE[name] if inputs[before])
        problem = f"{format_share(len(pairs), len(inputs[name]))} {name} rows {relation} the {earlier} data"
        theirs = pa.concat_tables([splits[before].select(LOCATION) for before in BEFORE[name]])
        yield Finding(check, len(pairs), len(inputs[name]), problem, HINT, name, _examples(splits[name], theirs, pairs))


def repeats(splits: Splits, inputs: Texts) -> Iterator[Finding]:
    """Find training rows that repeat an earlier one, if there are many of them."""
    rows, first, pairs = inputs["train"], dict[str, int](), dict[int, int]()
    for row, text in enumerate(rows):
        earlier = first.setdefault(text, row)
        if earlier != row:
            pairs[row] = earlier
    if len(pairs) >= REPEATED * len(rows) and pairs:
        problem = (
            f"{format_share(len(pairs), len(rows))} training rows repeat an earlier one, which gives it more weight"
        )
        hint = "Remove them, unless the extra weight is intended"
        yield Finding(
            "repeats", len(pairs), len(rows), problem, hint, "train", _examples(splits["train"], splits["train"], pairs)
        )


def pair_near_duplicates(learned: Sequence[str], held: Sequence[str]) -> dict[int, int]:
    """Pair held-out texts with near duplicates among the learned ones.

    Two texts are near duplicates if their shingles have a Jaccard similarity of at least ALIKE. MinHash (Broder 1997,
    "On the resemblance and containment of documents") with bands (Leskovec, Rajaraman and Ullman 2014, "Mining of
    Massive Datasets", section 3.4.2) finds candidates; the best candidate of each text is compared shingle by
    shingle. Texts of fewer than SHINGLE characters are never paired. datasketch's MinHashLSH finds the same pairs, but
    hashes text by text, which takes six times as long.

    Args:
        learned: Texts of the earlier splits.
        held: Texts of the split to check.

    Returns:
        The index of a learned text for each index of a held text that has a near duplicate.
    """
    ours = [row for row, text in enumerate(held) if len(text) >= SHINGLE]
    theirs = [row for row, text in enumerate(learned) if len(text) >= SHINGLE]
    if not ours or not theirs:
        return {}
    candidates = _find_likeliest(
        _signatures([held[row] for row in ours]), _signatures([learned[row] for row in theirs])
    )
    pairs = {ours[row]: theirs[other] for row, other in enumerate(candidates.tolist()) if other >= 0}
    return {row: other for row, other in pairs.items() if jaccard(held[row], learned[other]) >= ALIKE}


def jaccard(one: str, other: str) -> float:
    """The Jaccard similarity of two texts' shingles, in [0, 1]."""
    first, second = (
        {text[begin : begin + SHINGLE] for begin in range(len(text) - SHINGLE + 1)} for text in (one, other)
    )
    return len(first & second) / max(1, len(first | second))


def _signatures(texts: Sequence[str]) -> np.ndarray:
    """[texts, BANDS * IN_A_BAND] uint32: the MinHash signature of each text."""
    return np.concatenate([_min_hashes(texts[begin : begin + CHUNK]) for begin in range(0, len(texts), CHUNK)])


def _min_hashes(texts: Sequence[str]) -> np.ndarray:
    """[texts, BANDS * IN_A_BAND] the smallest hash of each text's shingles, for each hash function."""
    random = np.random.default_rng(0)
    factors = random.integers(0, 2**64, (SHINGLE, 1), np.uint64) | np.uint64(1)
    # all texts are hashed as one string of code points, so that the work is done by a few array operations
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    shingles = (np.lib.stride_tricks.sliding_window_view(codes, SHINGLE) @ factors).ravel()
    lengths = np.array([len(text) for text in texts])
    inside = np.ones(len(shingles), bool)
    for back in range(1, SHINGLE):  # drop shingles that span two texts
        inside[np.cumsum(lengths)[:-1] - back] = False
    firsts = np.cumsum([0, *(lengths[:-1] - SHINGLE + 1)])  # each text's first shingle among those that are left
    pairs = random.integers(0, 2**64, (BANDS * IN_A_BAND, 2), np.uint64)
    least = (
        np.minimum.reduceat((shingles[inside] * (factor | np.uint64(1)) + shift) >> np.uint64(32), firsts)
        for factor, shift in pairs
    )
    return np.stack([*least], axis=1).astype(np.uint32)


def _find_likeliest(held: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """[held] the row of `learned` with the most similar signature among those that share a band, or -1."""
    best, match = np.zeros(len(held)), np.full(len(held), -1)
    for band in range(0, held.shape[1], IN_A_BAND):
        ours, theirs = (_buckets(signatures[:, band : band + IN_A_BAND]) for signatures in (held, learned))
        # the learned rows of a held row's bucket are theirs[order][begin:end]
        order = np.argsort(theirs, kind="stable")
        begin, end = (np.searchsorted(theirs[order], ours, side) for side in ("left", "right"))  # type: ignore[call-overload]
        for position in range(min(BUCKET, int((end - begin).max(initial=0)))):
            rows = np.flatnonzero(begin + position < end)
            others = order[begin[rows] + position]
            similarity = (held[rows] == learned[others]).mean(axis=1)
            better = similarity > best[rows]
            best[rows[better]], match[rows[better]] = similarity[better], others[better]
    return match


def _buckets(band: np.ndarray) -> np.ndarray:
    """[rows] one hash of the values in a band."""
    factors = np.random.default_rng(1).integers(0, 2**64, band.shape[1], np.uint64) | np.uint64(1)
    return (band.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)


def _to_text(value: Any) -> str:
    """A value as text; lists of words or of chat messages are joined."""
    if isinstance(value, list):
        return " ".join(part["content"] if isinstance(part, dict) else str(part) for part in value)
    return "" if value is None else str(value)


def _examples(ours: pa.Table, theirs: pa.Table, pairs: Mapping[int, int]) -> list[dict[str, Any]]:
    """File and line of the first paired rows, and of the rows that they equal."""
    return [{**_location(ours, row), "as": _location(theirs, other)} for row, other in sorted(pairs.items())[:SHOWN]]


def _location(rows: pa.Table, row: int) -> dict[str, Any]:
    return {name: rows[name][row].as_py() for name in LOCATION}
