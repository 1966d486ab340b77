"""Where a recipe's paths may lead. What data names stays in the data's folder, and a worker can hold recipes in one."""

import os
from pathlib import Path

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe import Recipe
from pipeline_lib.schema import inside

CONFINED = "TUNESMITH_ROOT"
"""The environment variable that holds recipes in a folder: whoever may start a run need not read all that a worker may.

A recipe cannot set it. Without it a recipe reads and writes what the account that runs it may.
"""


def refuse_outside(recipe: Recipe, files: list[Path]) -> None:
    """Raise RecipeError where a path of the recipe leads out of the folder in $TUNESMITH_ROOT, links resolved."""
    named = [("data.source", file) for file in files if not _fetched(recipe)]
    if Path(recipe.model.base).is_dir():
        named.append(("model.base", Path(recipe.model.base)))
    hold([*named, ("execution.store", Path(recipe.execution.store))])


def hold(named: list[tuple[str, Path]]) -> None:
    """Raise RecipeError where a path leads out of the folder in $TUNESMITH_ROOT; each comes with its field's name."""
    if not (root := os.environ.get(CONFINED)):
        return
    for field, path in named:
        if ":/" not in str(path) and not inside(path, Path(root)):  # a URL is no path of this machine
            problem = f"lies outside of the folder that ${CONFINED} holds recipes in"
            raise RecipeError(field, str(path), problem, "Put it there, or ask whoever runs the worker")


def _fetched(recipe: Recipe) -> bool:
    """Whether the data's files are those of the hub's own cache."""
    source = recipe.data.source
    return source.kind == "huggingface" and not Path(source.path).is_dir()
