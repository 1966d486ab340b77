"""The step `rescore`: what a registered model, as it is served, answers to today's test rows."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.dataset import read_split
from pipeline_lib.evaluation.answer import Answerer
from pipeline_lib.evaluation.outcome_file import in_groups, write_outcome

if TYPE_CHECKING:
    from pipeline_lib.recipe import Recipe


def write_rescored(
    recipe: "Recipe", prepared: Path, shards: Path, model: Path, base: Path | None, folder: Path
) -> None:
    """Write outcome.parquet. Rows are encoded anew: the model may have another tokenizer than its challenger."""
    rows = read_split(prepared, shards, "test")
    answerer = Answerer(model, base, recipe.execution.device)
    split = answerer.split(rows.to_pylist())
    outcome, told = answerer.objective.outcome(*answerer.read(split)), split._replace(rows=rows)
    write_outcome(in_groups(outcome, told), told, recipe.objective.hidden, folder)
