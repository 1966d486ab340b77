"""Choose the validation and test shares, and the column whose rows must stay together."""

from typing import Any

from pipeline_lib.init.column import Column
from pipeline_lib.init.dataset import Dataset
from pipeline_lib.init.proposal import Proposal
from pipeline_lib.init.roles import is_group

LARGE = 20_000
"""From so many rows on a smaller share is enough."""
LEAST_GROUPS = 10
TITLES = ("title", "article_title")


def split_fields(dataset: Dataset, proposal: Proposal) -> tuple[dict[str, Any], list[str]]:
    """The fields of `data.split`, and what is unsure about them."""
    rows = sum(table.rows for table in dataset.splits["train"])
    share = 0.1 if rows < LARGE else 0.02
    drawn = [split for split in ("validation", "test") if not _is_given(dataset, split)]
    fields: dict[str, Any] = dict.fromkeys(drawn, share)
    if not drawn:
        return {}, []
    notes = []
    if "test" in drawn:
        note = f"There is no test file: {share:.0%} of the training rows are held out for testing"
        validation = dataset.splits.get("validation")
        named = f"; to score on {validation[0].file.name}, name it as data.source.test" if validation else ""
        notes.append(f"{note}{named}.")
    if group := _group(dataset, proposal):
        fields["by"] = group.name
        values = len(group.values)
        note = f"Rows with the same {group.name} stay together ({values:,} values)"
        notes.append(f"{note}: remove split.by if this is not needed.")
    return fields, notes


def _is_given(dataset: Dataset, split: str) -> bool:
    return bool(dataset.splits.get(split)) or split in dataset.fields


def _group(dataset: Dataset, proposal: Proposal) -> Column | None:
    """The column that names documents, users or threads, where there are enough of them."""
    for column in dataset.train.columns.values():
        called = is_group(column) or (proposal.objective == "question_answering" and column.name in TITLES)
        repeated = column.is_counted and LEAST_GROUPS <= len(column.values) <= column.present / 2
        if called and repeated and column.name not in proposal.columns.values():
            return column
    return None
