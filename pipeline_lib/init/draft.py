"""Draft a recipe from a request: read the dataset, choose the objective and the base, and fill in the fields."""

import os
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline_lib.data.sources import Row
from pipeline_lib.errors import RecipeError
from pipeline_lib.init.base import Base, adapt_proposal, choose_base, reading_for
from pipeline_lib.init.dataset import Dataset, drop_unanswered, read_dataset
from pipeline_lib.init.files import data_name
from pipeline_lib.init.proposal import Proposal, proposals
from pipeline_lib.init.question import Request, Undecided
from pipeline_lib.init.split import split_fields
from pipeline_lib.init.table import ROWS
from pipeline_lib.recipe.schema import Recipe, check

MOST_ANSWERS = 8
TRIED = 5_000
"""Rows of a file that are tried."""
MOST_UNUSABLE = 0.2
MOST_UNKNOWN = 0.02
"""Share of tokens that a base's tokenizer may not know without a word about it."""
READ = ("text", "context", "source", "prompt", "tokens", "messages", "chosen")
WRITTEN = {"target": ("max_target", 128), "answer": ("max_answer", 128)}
"""Roles of texts that are written: the objective's field and its default."""
MOST_WRITTEN = 1024


@dataclass
class Draft:
    """A recipe that is not yet written, and what led to it."""

    dataset: Dataset
    proposal: Proposal
    base: Base
    document: dict[str, Any]
    unsure: list[str]


def make_draft(request: Request, out: Path) -> Draft:
    """Decide on everything; raises Undecided for what the user must decide, RecipeError for what cannot work."""
    dataset = read_dataset(request)
    request = _about_columns(request, dataset)
    proposal = _decide(dataset, request)
    script = _read_column(dataset, proposal)
    base, notes = choose_base(request.base, proposal, script.script if script else "")
    proposal = adapt_proposal(proposal, base)
    dataset = drop_unanswered(dataset, proposal)
    unsure = [*dataset.unsure, *proposal.unsure, *notes]
    split, more = split_fields(dataset, proposal)
    proposal, lengths = _fit_lengths(dataset, proposal, base)
    document = _document(dataset, proposal, base, split, request, out)
    recipe = check(document, out.absolute().parent)
    unsure.extend([*more, *lengths, *_try_rows(recipe, document)])
    if any(table.more for tables in dataset.splits.values() for table in tables):
        unsure.append(f"Only the first {ROWS:,} rows of large files were inspected.")
    return Draft(dataset, proposal, base, document, unsure)


def _about_columns(request: Request, dataset: Dataset) -> Request:
    """Without the sides of parallel files, which are no columns; raises RecipeError for unknown columns."""
    columns = dict(request.columns)
    if dataset.fields["kind"] == "parallel":
        columns = {role: name for role, name in columns.items() if name in dataset.train.columns}
    for role, name in columns.items():
        if name not in dataset.train.columns:
            known = ", ".join(dataset.train.columns)
            raise RecipeError("--column", f"{role}={name}", "unknown column", f"Choose one of {known}")
    return replace(request, columns=columns)


def _decide(dataset: Dataset, request: Request) -> Proposal:
    """The one proposal that fits; raises Undecided where there are several, RecipeError where there is none."""
    found = proposals(dataset.train, request)
    if len(found) == 1:
        return found[0]
    columns = ", ".join(dataset.train.columns)
    if not found:
        problem = f"no objective fits the columns {columns}"
        raise RecipeError("DATA", None, problem, "Give an objective with --objective, and its columns with --column")
    problem = f"The columns {columns} can be interpreted in {len(found)} ways"
    raise Undecided(problem, [proposal.answer for proposal in found[:MOST_ANSWERS]])


def _read_column(dataset: Dataset, proposal: Proposal) -> Any:
    """The column of the text that the model reads."""
    name = next((proposal.columns[role] for role in READ if role in proposal.columns), None)
    return dataset.train.columns.get(name) if name else None


def _fit_lengths(dataset: Dataset, proposal: Proposal, base: Base) -> tuple[Proposal, list[str]]:
    """With room for what is written; and what the base's tokenizer does not know."""
    notes, options = [], dict(proposal.options)
    column = _read_column(dataset, proposal)
    reading = reading_for(base, column) if column and column.kind != "messages" else None
    if reading and reading.unknown > MOST_UNKNOWN:
        what = f"{reading.unknown:.0%} of the tokens in {column.name}"
        notes.append(f"The base's tokenizer does not know {what}: another base may suit better.")
    for role, (name, default) in WRITTEN.items():
        if role in proposal.columns and (reading := reading_for(base, dataset.train.columns[proposal.columns[role]])):
            wanted = default
            while wanted < reading.long and wanted < MOST_WRITTEN:
                wanted *= 2
            options |= {name: wanted} if wanted != default else {}
    return replace(proposal, options=options), notes


def _document(
    dataset: Dataset, proposal: Proposal, base: Base, split: dict[str, Any], request: Request, out: Path
) -> dict[str, Any]:
    """The recipe's fields."""
    columns = proposal.columns
    if "names" in dataset.fields:  # they are ours, so the roles' names are as good, and say more
        renamed = {column: role for role, column in columns.items()}
        names = [renamed.get(name, name) for name in dataset.fields["names"]]
        dataset = replace(dataset, fields={**dataset.fields, "names": names})
        columns = {role: role for role in columns}
    if dataset.fields["kind"] == "text":
        columns = {}
    document: dict[str, Any] = {
        "name": data_name(request.data),
        "data": {"source": _source(dataset, out), "columns": columns, "split": split},
        "model": {"base": _relative_base(base, out)},
        "objective": {"kind": proposal.objective, **proposal.options},
        "strategies": [{"kind": "full"}],
        "regularizers": [{"kind": "weight_decay", "value": 0.01}],
        "training": {"epochs": 3, "learning_rate": _rate(base)},
        "evaluation": {"baselines": _baselines(proposal)},
    }
    if not columns:
        del document["data"]["columns"]
    if not split:
        del document["data"]["split"]
    return document


def _source(dataset: Dataset, out: Path) -> dict[str, Any]:
    if dataset.fields["kind"] == "huggingface":
        return {**dataset.fields, "path": _relative(dataset.train.file, out)}
    paths: dict[str, Any] = {}
    for split, tables in dataset.splits.items():
        names = [_relative(table.file, out) for table in tables]
        paths[split] = names[0] if len(names) == 1 else names
    return {**dataset.fields, **paths}


def _relative(file: Path, out: Path) -> str:
    """A path from the recipe's folder, as recipes have them."""
    return os.path.relpath(file.absolute(), out.absolute().parent)


def _relative_base(base: Base, out: Path) -> str:
    if base.folder and not base.name.startswith("package:") and base.folder.samefile(Path(base.name).absolute()):
        return _relative(base.folder, out)
    return base.name


def _rate(base: Base) -> float:
    """A usual peak rate of AdamW for models of this kind; small models learn at higher ones."""
    small = 0 < base.width <= 512
    if base.kind == "encoder-decoder":
        return 1e-3 if small else 3e-4
    return 2e-4 if small else 5e-5


def _baselines(proposal: Proposal) -> list[str]:
    if proposal.objective == "text_classification":
        return [] if "problem_type" in proposal.options else ["majority", "bag_of_words"]
    return {"seq2seq": ["copy"], "causal_lm": ["untrained"], "language_modeling": ["untrained"]}.get(
        proposal.objective, []
    )


def _try_rows(recipe: Recipe, document: dict[str, Any]) -> list[str]:
    """Read rows as a run does. Where more cannot be used than a run allows, allow them in the document.

    Raises RecipeError where most cannot be used.
    """
    notes = []
    roles = recipe.objective.columns(recipe.data.columns)
    for split in ("train", "validation", "test"):
        for file in recipe.data.source.files(split):
            bad: list[str] = []
            rows = 0
            for row in islice(recipe.data.source.read(file), TRIED):
                rows += 1
                try:
                    if not isinstance(row, Row):
                        raise ValueError(row.reason)
                    recipe.objective.clean({role: row.get(column) for role, column in roles.items()})
                except ValueError as error:
                    bad.append(f"line {row.line}: {error}")
            share = len(bad) / max(rows, 1)
            if share > MOST_UNUSABLE:
                problem = f"{share:.0%} of the rows cannot be used as {recipe.objective.kind} ({'; '.join(bad[:3])})"
                raise RecipeError("DATA", str(file), problem, "Choose other columns with --column, or clean the file")
            if bad:
                notes.append(f"{len(bad):,} of {rows:,} rows of {file.name} are left out ({'; '.join(bad[:3])}).")
            if share > document["data"].get("max_unusable", recipe.data.max_unusable):
                document["data"]["max_unusable"] = round(min(2 * share, 0.99), 3)
    return notes
