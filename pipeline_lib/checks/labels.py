"""Labels with few rows, labels that nearly all rows have, labels that a split lacks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline_lib.checks.findings import SHOWN, Finding, listed, share
from pipeline_lib.objectives.labels import are_fractions

if TYPE_CHECKING:
    import pyarrow

FEW = 10
"""A label with fewer training rows is called rare."""
NEARLY_ALL = 0.9


def balance(splits: Mapping[str, "pyarrow.Table"], role: str, labels: Sequence[str]) -> Iterator[Finding]:
    """Rare labels, and one that nearly all training rows have."""
    counts, rows = rows_of_labels(splits["train"], role), len(splits["train"])
    rare = sorted((label for label in labels if 0 < counts[label] < FEW), key=lambda label: (counts[label], label))
    if rare:
        told = listed([f"{label} ({counts[label]})" for label in rare])
        problem = f"{len(rare):,} of {len(labels):,} labels have fewer than {FEW} training rows: {told}"
        yield Finding("balance", len(rare), len(labels), problem, "Add rows with these labels, or join labels", "train")
    if role == "label" and labels and counts and (most := counts.most_common(1)[0])[1] >= NEARLY_ALL * rows:
        problem = (
            f"{most[1]:,} of {rows:,} training rows have the label {most[0]!r}: to always guess it is right as often"
        )
        hint = "Add rows of other labels, and read macro averages rather than accuracy"
        yield Finding("balance", most[1], rows, problem, hint, "train")


def missing_labels(splits: Mapping[str, "pyarrow.Table"], role: str, labels: Sequence[str]) -> Iterator[Finding]:
    """Labels of the training rows that no row of another split has."""
    trained = rows_of_labels(splits["train"], role)
    labels = [label for label in labels if trained[label]]
    for name in ("validation", "test"):
        known = rows_of_labels(splits[name], role)
        missing = [label for label in labels if not known[label]]
        if missing and len(splits[name]):
            problem = f"{len(missing):,} of {len(labels):,} labels stand in no {name} row: {listed(missing)}"
            hint = f"Set aside a larger share, or add {name} rows: nothing will be known about these labels"
            yield Finding("missing_labels", len(missing), len(labels), problem, hint, name)


def unseen_labels(splits: Mapping[str, "pyarrow.Table"], role: str) -> Iterator[Finding]:
    """Labels that only the rows of a given file have, with where these rows stand."""
    trained = rows_of_labels(splits["train"], role)
    for name in ("validation", "test"):
        rows = splits[name].select(["file", "line", role]).to_pylist()
        unseen = [row for row in rows if not _names(row[role]) <= trained.keys()]
        names = sorted(set().union(*(_names(row[role]) for row in unseen)) - trained.keys())
        if unseen:
            where = f"{unseen[0]['file']} (line {unseen[0]['line']})"
            problem = (
                f"{share(len(unseen), len(rows))} {name} rows have a label that no training row has: {listed(names)}; "
                f"the first stands in {where}"
            )
            hint = "Add training rows with these labels, or take those rows out: a model never gives such a label"
            yield Finding("unseen_labels", len(unseen), len(rows), problem, hint, name, unseen[:SHOWN])


def numeric_labels(labels: Sequence[str]) -> Iterator[Finding]:
    """Names that are numbers such as 3.75."""
    if are_fractions(labels):
        problem = f"the {len(labels):,} labels are numbers such as {next(x for x in labels if are_fractions([x]))}"
        hint = "Choose objective.problem_type: regression, unless each number is a class of its own"
        yield Finding("numeric_labels", len(labels), len(labels), problem, hint)


def _names(value: str | list[str]) -> set[str]:
    return set(value) if isinstance(value, list) else {value}


def rows_of_labels(rows: "pyarrow.Table", role: str) -> Counter[str]:
    """How many rows have each label, at least once where a row has several."""
    return Counter(label for value in rows[role].to_pylist() for label in _names(value))


def misplaced_answers(splits: Mapping[str, "pyarrow.Table"]) -> Iterator[Finding]:
    """Rows whose answers stand elsewhere in the text than they say."""
    for name, rows in splits.items():
        if not {"answers", "starts"} <= {*rows.column_names}:
            return
        pairs = zip(rows["answers"].to_pylist(), rows["starts"].to_pylist(), strict=True)
        wrong = [index for index, (answers, starts) in enumerate(pairs) if answers and not starts]
        if wrong:
            effect = "are not trained on" if name == "train" else "are compared with their texts alone"
            problem = f"{share(len(wrong), len(rows))} {name} rows have no answer at its answer_start: they {effect}"
            examples = rows.select(["file", "line"]).take(wrong[:SHOWN]).to_pylist()
            hint = "Count answer_start in characters from 0, in the text as it stands in the file"
            yield Finding("misplaced_answers", len(wrong), len(rows), problem, hint, name, examples)
