"""Assign the files of a dataset to training, validation and test, or leave them out."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.init.encoding import find_foreign_word, is_ascii
from pipeline_lib.init.files import SPLIT_WORDS, FoundFile, find_files
from pipeline_lib.init.formats import Fields, fields_of, suffix_of
from pipeline_lib.init.no_data import NoData
from pipeline_lib.init.parallel import choose_sides, parallel_groups
from pipeline_lib.init.proposal import Proposal
from pipeline_lib.init.question import Answer, Request, Undecided
from pipeline_lib.init.table import FileTable, read_table

FEWEST_LINES = 10
"""Lines from which on it is no coincidence that files are equally long."""


@dataclass
class Dataset:
    """Tables by split, and what there is to say about the choice."""

    fields: Fields
    splits: dict[str, list[FileTable]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    @property
    def train(self) -> FileTable:
        """The first table that is trained on."""
        return self.splits["train"][0]


def read_dataset(request: Request) -> Dataset:
    """Read all files of a request; raises Undecided where it is unknown which of them belong together."""
    files = find_files(request.data)
    left_out: list[str] = []
    if groups := parallel_groups(files):
        fields, sources = choose_sides(groups, request)
        inside = {file for group in groups for file in group.values()}
        left_out.extend(f"{file.path.name}: not one of the parallel files" for file in files if file not in inside)
        found = [(file, read_table(file.path, fields)) for file in sources]
    else:
        found = list(_readable(files, left_out))
    if not found:
        raise RecipeError("DATA", _paths(request.data), f"holds no rows ({'; '.join(left_out[:3])})", "Check the files")
    dataset = _arrange_splits(found, left_out)
    dataset.unsure += _check_encodings(dataset)
    return dataset


def _paths(paths: Iterable[Path]) -> str:
    return " ".join(map(str, paths))


def _readable(files: list[FoundFile], left_out: list[str]) -> Iterable[tuple[FoundFile, FileTable]]:
    for file in files:
        try:
            fields = fields_of(file.path)
            yield file, read_table(file.path, fields)
        except NoData as error:
            left_out.append(f"{file.path.name}: {error}")


def _arrange_splits(found: list[tuple[FoundFile, FileTable]], left_out: list[str]) -> Dataset:
    """By split. Without a file for training, those without a split are trained on, or else what there is."""
    by_split: dict[str | None, list[tuple[FoundFile, FileTable]]] = {}
    for file, table in found:
        by_split.setdefault(file.split, []).append((file, table))
    unsure: list[str] = []
    trained = next(split for split in ("train", None, "validation", "test") if split in by_split)
    training = by_split.pop(trained)
    _refuse_mixed(training, trained is None)
    dataset = Dataset(training[0][1].fields, {"train": [table for _, table in training]}, left_out, unsure)
    unsure += [*_note_folders(dataset), *_note_equal_lengths(dataset)]
    if trained in ("validation", "test"):
        names = ", ".join(file.path.name for file, _ in training)
        unsure.append(f"No file is named train, so {names} is used for training.")
    for split in SPLITS[1:]:
        for _, table in by_split.pop(split, ()):
            _add(dataset, split, table)
    for _, table in by_split.pop(None, ()):
        left_out.append(f"{table.file.name}: its name contains none of {', '.join(SPLIT_WORDS)}")
    return dataset


def _note_folders(dataset: Dataset) -> list[str]:
    """Return what to check where texts are in several folders, which may be named by their labels."""
    folders = Counter(table.file.parent.name for table in dataset.splits["train"])
    if dataset.fields["kind"] != "text" or len(folders) < 2 or min(folders.values()) < 2:
        return []
    names = ", ".join(sorted(folders)[:5])
    return [f"The folders {names} are not read as labels: to classify the texts, write them to a table with labels."]


def _note_equal_lengths(dataset: Dataset) -> list[str]:
    """Return what to check where text files are equally long, as a dialogue's lines and its annotations are."""
    tables = dataset.splits["train"]
    names = {re.sub("[0-9]+", "", table.file.name) for table in tables}  # numbered files are parts of one text
    rows = {table.rows for table in tables}
    if dataset.fields["kind"] != "text" or len(names) < 2 or len(rows) > 1 or rows.pop() < FEWEST_LINES:
        return []
    shown = ", ".join(sorted(names)[:5])
    return [f"{shown} have {tables[0].rows:,} lines each: leave out what is not text, such as annotations."]


def _check_encodings(dataset: Dataset) -> list[str]:
    """Return what to check where files are not UTF-8; raises RecipeError if the files are in several encodings."""
    encoding = dataset.fields.get("encoding")
    tables = [table for tables in dataset.splits.values() for table in tables]
    for table in tables:
        other = table.fields.get("encoding")
        if other != encoding and not is_ascii(table.file):
            names = f"{other or 'UTF-8'}, but {dataset.train.file.name} is {encoding or 'UTF-8'}"
            raise RecipeError("DATA", str(table.file), f"is {names}", "Write all files in UTF-8")
    if not encoding:
        return []
    name, word = dataset.train.file.name, find_foreign_word(dataset.train.file)
    return [f"{name} is not UTF-8. It is read as {encoding}: change source.encoding if {word!r} looks wrong."]


def _add(dataset: Dataset, split: str, table: FileTable) -> None:
    if table.fields["kind"] != dataset.fields["kind"]:
        dataset.left_out.append(f"{table.file.name}: {table.fields['kind']}, and training is {dataset.fields['kind']}")
    else:
        dataset.splits.setdefault(split, []).append(table)


def _refuse_mixed(training: list[tuple[FoundFile, FileTable]], unnamed: bool) -> None:
    """Raise Undecided for files that hold the same rows, or rows of different columns."""
    every = tuple(file.path for file, _ in training)
    one_each = [Answer(f"{file.path.name} alone", data=(file.path,)) for file, _ in training]
    explicit = all(file.explicit for file, _ in training)
    kinds = {(table.fields["kind"], frozenset(table.columns)) for _, table in training}
    _refuse_unmatched(training)
    if unnamed and not explicit:
        for (_, one), (_, other) in combinations(training, 2):
            if one.shares_rows_with(other):
                problem = f"{one.file.name} and {other.file.name} have the same texts or ids: versions of one dataset"
                answers = [*one_each, Answer("all of them", data=every)] if len(kinds) == 1 else one_each
                raise Undecided(problem, answers)
    if len(kinds) > 1:
        raise Undecided("The files to train on are of different kinds or have different columns", one_each)


def _refuse_unmatched(training: list[tuple[FoundFile, FileTable]]) -> None:
    """Raise RecipeError for text files of equally many lines that may be parallel, but are not named so."""
    texts = [table for _, table in training if table.fields["kind"] == "text"]
    if len(texts) > 1 and len({table.rows for table in texts}) == 1 and len({suffix_of(t.file) for t in texts}) > 1:
        names = " and ".join(table.file.name for table in texts)
        hint = "If line n of one belongs to line n of the other, name them alike, such as train.in and train.out"
        problem = f"have {texts[0].rows:,} lines each, but are not named as parallel files"
        raise RecipeError("DATA", names, problem, hint)


def drop_unanswered(dataset: Dataset, proposal: Proposal) -> Dataset:
    """Without validation and test files that lack what the proposal needs, such as the labels of a hidden test."""
    splits, left_out = {"train": dataset.splits["train"]}, list(dataset.left_out)
    for split in SPLITS[1:]:
        for table in dataset.splits.get(split, ()):
            if problem := _lacks(table, dataset.train, proposal):
                left_out.append(f"{table.file.name}: {problem}")
            else:
                splits.setdefault(split, []).append(table)
    return replace(dataset, splits=splits, left_out=left_out)


def _lacks(table: FileTable, train: FileTable, proposal: Proposal) -> str | None:
    optional = ("input", "tools", "system")
    for role, name in proposal.columns.items():
        if role in optional:
            continue
        if name not in table.columns or not table.columns[name].present:
            return f"has no values in {name}"
    label = proposal.columns.get("label")
    if label and (known := train.columns[label]).has_labels and not known.values.keys() & table.columns[label].values:
        return f"has none of the labels that the training rows have in {label}"
    return None
