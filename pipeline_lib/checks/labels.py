"""Labels with few rows, labels that nearly all rows have, labels that a split lacks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline_lib.checks.findings import Finding, listed

if TYPE_CHECKING:
    import pyarrow

FEW = 10
"""A label with fewer training rows is called rare."""
NEARLY_ALL = 0.9


def balance(splits: Mapping[str, "pyarrow.Table"], role: str, labels: Sequence[str]) -> Iterator[Finding]:
    """Rare labels, and one that nearly all training rows have."""
    counts, rows = rows_of_labels(splits["train"], role), len(splits["train"])
    rare = sorted((label for label in labels if counts[label] < FEW), key=lambda label: (counts[label], label))
    if rare:
        told = listed([f"{label} ({counts[label]})" for label in rare])
        problem = f"{len(rare):,} of {len(labels):,} labels have fewer than {FEW} training rows: {told}"
        yield Finding("balance", len(rare), len(labels), problem, "Add rows with these labels, or join labels", "train")
    if role == "label" and labels and counts and (most := counts.most_common(1)[0])[1] >= NEARLY_ALL * rows:
        problem = (
            f"{most[1]:,} of {rows:,} training rows have the label {most[0]!r}: to always guess it is right as often"
        )
        mend = "Add rows of other labels, and read macro averages rather than accuracy"
        yield Finding("balance", most[1], rows, problem, mend, "train")


def missing_labels(splits: Mapping[str, "pyarrow.Table"], role: str, labels: Sequence[str]) -> Iterator[Finding]:
    """Labels of the training rows that no row of another split has; the other way round `prepare` stops a run."""
    for name in ("validation", "test"):
        known = rows_of_labels(splits[name], role)
        missing = [label for label in labels if not known[label]]
        if missing and len(splits[name]):
            problem = f"{len(missing):,} of {len(labels):,} labels stand in no {name} row: {listed(missing)}"
            mend = f"Set aside a larger share, or add {name} rows: of these labels nothing will be known"
            yield Finding("missing_labels", len(missing), len(labels), problem, mend, name)


def rows_of_labels(rows: "pyarrow.Table", role: str) -> Counter[str]:
    """How many rows have each label, at least once where a row has several."""
    return Counter(
        label for value in rows[role].to_pylist() for label in (set(value) if isinstance(value, list) else {value})
    )
