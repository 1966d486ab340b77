"""The step `checks`: find problems of the data and the model before hours are spent on training."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.checks.chat_template import find_template_faults
from pipeline_lib.checks.duplicates import duplicates, near_duplicates, normalized_inputs, repeats
from pipeline_lib.checks.findings import Finding, write_findings
from pipeline_lib.checks.labels import balance, misplaced_answers, missing_labels, numeric_labels, unseen_labels
from pipeline_lib.checks.truncation import find_truncated_splits
from pipeline_lib.data.prepared import read_labels, read_split
from pipeline_lib.data.source_rows import add_source_files
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.util.freed_memory import return_freed_memory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Check = Callable[[], Iterator[Finding]]


@return_freed_memory()
def write_checks(recipe: Recipe, prepared: Path, shards: Path, base: Path, initial: Path, folder: Path) -> None:
    """Run all checks that the recipe does not ignore, and write checks.json."""
    levels = recipe.data.checks.model_dump()
    checks = _checks(recipe, prepared, shards, base, initial)
    enabled = {name: check for name, check in checks.items() if levels[name] != "ignore"}
    write_findings([(levels[name], finding) for name, check in enabled.items() for finding in check()], folder)


def _checks(recipe: Recipe, prepared: Path, shards: Path, base: Path, initial: Path) -> dict[str, Check]:
    """All checks by their field in `data.checks`; those that do not apply to the objective find nothing."""
    from pipeline_lib.checks.model import model_findings

    objective, labels = recipe.objective, read_labels(prepared)
    splits = {
        name: add_source_files(prepared, read_split(prepared, shards, name), name)
        for name in ("train", "validation", "test")
    }
    role = objective.label_role if labels else None

    def training_texts() -> dict[str, list[str]]:
        """The training texts, including columns that distinguish rows with the same input."""
        if not objective.distinguishing:
            return input_texts()
        return {"train": normalized_inputs(objective, splits["train"], objective.distinguishing)}

    @cache
    def tokenizer() -> "PreTrainedTokenizerBase":
        return objective.tokenizer(base)

    @cache
    def input_texts() -> dict[str, list[str]]:
        return {name: normalized_inputs(objective, rows) for name, rows in splits.items()}

    return {
        "duplicates": lambda: duplicates(splits, input_texts()),
        "near_duplicates": lambda: near_duplicates(splits, input_texts()),
        "repeats": lambda: repeats(splits, training_texts()),
        "truncated": lambda: find_truncated_splits(splits, objective, tokenizer()),
        "chat_template": lambda: find_template_faults(objective, tokenizer(), splits["train"]),
        "balance": lambda: balance(splits, role, labels) if role else iter(()),
        "missing_labels": lambda: missing_labels(splits, role, labels) if role else iter(()),
        "unseen_labels": lambda: unseen_labels(splits, role) if role else iter(()),
        "numeric_labels": lambda: numeric_labels(labels) if role == "label" else iter(()),
        "misplaced_answers": lambda: misplaced_answers(splits),
        "model": lambda: model_findings(recipe, base, initial, splits["train"], labels),
    }
