"""Check labels: rare, dominant, missing, unseen or numeric ones, and misplaced answer spans."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline_lib.checks.findings import SHOWN, Finding, format_share, join_names
from pipeline_lib.objectives.labels import are_fractions

if TYPE_CHECKING:
    import pyarrow

FEW = 10
"""A label with fewer training rows is rare."""
NEARLY_ALL = 0.9
"""A label with at least this share of the training rows is dominant."""


def balance(splits: Mapping[str, "pyarrow.Table"], role: str, labels: Sequence[str]) -> Iterator[Finding]:
    """Find rare labels, and a label that nearly all training rows have."""
    counts, rows = rows_of_labels(splits["train"], role), len(splits["train"])
    rare = sorted((label for label in labels if 0 < counts[label] < FEW), key=lambda label: (counts[label], label))
    if rare:
        names = join_names([f"{label} ({counts[label]})" for label in rare])
        problem = f"{len(rare):,} of {len(labels):,} labels have fewer than {FEW} training rows: {names}"
        yield Finding(
            "balance", len(rare), len(labels), problem, "Add rows with these labels, or merge labels", "train"
        )
    if role != "label" or not labels or not counts:
        return
    label, count = counts.most_common(1)[0]
    if count >= NEARLY_ALL * rows:
        problem = (
            f"{count:,} of {rows:,} training rows have the label {label!r}, so always predicting it is right that often"
        )
        hint = "Add rows with other labels, and look at macro averages instead of accuracy"
        yield Finding("balance", count, rows, problem, hint, "train")


def missing_labels(splits: Mapping[str, "pyarrow.Table"], role: str, labels: Sequence[str]) -> Iterator[Finding]:
    """Find labels of the training rows that no validation row, or no test row, has."""
    trained = rows_of_labels(splits["train"], role)
    labels = [label for label in labels if trained[label]]
    for name in ("validation", "test"):
        counts = rows_of_labels(splits[name], role)
        missing = [label for label in labels if not counts[label]]
        if missing and len(splits[name]):
            problem = f"{len(missing):,} of {len(labels):,} labels have no {name} row: {join_names(missing)}"
            hint = f"Set aside a larger share, or add {name} rows: these labels cannot be evaluated"
            yield Finding("missing_labels", len(missing), len(labels), problem, hint, name)


def unseen_labels(splits: Mapping[str, "pyarrow.Table"], role: str) -> Iterator[Finding]:
    """Find labels that only occur in a given validation or test file, with the file and line of their rows."""
    trained = rows_of_labels(splits["train"], role)
    for name in ("validation", "test"):
        rows = splits[name].select(["file", "line", role]).to_pylist()
        unseen = [row for row in rows if not _names(row[role]) <= trained.keys()]
        names = sorted(set().union(*(_names(row[role]) for row in unseen)) - trained.keys())
        if unseen:
            problem = (
                f"{format_share(len(unseen), len(rows))} {name} rows have a label that no training row has: "
                f"{join_names(names)}; the first is {unseen[0]['file']} line {unseen[0]['line']}"
            )
            hint = "Add training rows with these labels, or remove those rows: the model cannot predict such a label"
            yield Finding("unseen_labels", len(unseen), len(rows), problem, hint, name, unseen[:SHOWN])


def numeric_labels(labels: Sequence[str]) -> Iterator[Finding]:
    """Find labels that are all decimal fractions such as 3.75."""
    if are_fractions(labels):
        problem = f"the {len(labels):,} labels are numbers such as {next(x for x in labels if are_fractions([x]))}"
        hint = "Set objective.problem_type: regression, unless each number is a class of its own"
        yield Finding("numeric_labels", len(labels), len(labels), problem, hint)


def _names(value: str | list[str]) -> set[str]:
    return set(value) if isinstance(value, list) else {value}


def rows_of_labels(rows: "pyarrow.Table", role: str) -> Counter[str]:
    """Count the rows that have each label; with several labels per row, each label of a row counts once."""
    return Counter(label for value in rows[role].to_pylist() for label in _names(value))


def misplaced_answers(splits: Mapping[str, "pyarrow.Table"]) -> Iterator[Finding]:
    """Find rows whose answers are not at their answer_start."""
    for name, rows in splits.items():
        if not {"answers", "starts"} <= {*rows.column_names}:
            return
        pairs = zip(rows["answers"].to_pylist(), rows["starts"].to_pylist(), strict=True)
        wrong = [index for index, (answers, starts) in enumerate(pairs) if answers and not starts]
        if wrong:
            effect = "are not trained on" if name == "train" else "are compared by text only"
            problem = (
                f"{format_share(len(wrong), len(rows))} {name} rows have no answer at its answer_start: they {effect}"
            )
            examples = rows.select(["file", "line"]).take(wrong[:SHOWN]).to_pylist()
            hint = "Count answer_start in characters from 0, in the unchanged text of the file"
            yield Finding("misplaced_answers", len(wrong), len(rows), problem, hint, name, examples)
