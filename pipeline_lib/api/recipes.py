"""Recipes from files, dicts and other recipes, with data from files or from DataFrames."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.api.frames import store_frames
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import load, parse_override, set_value
from pipeline_lib.recipe.schema import Given, Recipe, check
from pipeline_lib.recipe.yaml_text import to_yaml_line

if TYPE_CHECKING:
    import pandas as pd

RecipeLike = str | Path | Mapping[str, Any] | Recipe
"""A recipe, or what `load_recipe` makes one from."""


def load_recipe(
    recipe: RecipeLike,
    overrides: Mapping[str, Any] | None = None,
    *,
    data: "pd.DataFrame | Mapping[str, pd.DataFrame] | None" = None,
) -> Recipe:
    """Load a recipe and check it.

    Args:
        recipe: The path of a YAML file, a dict with the same fields, or a recipe to change. Paths in a file are
            relative to its folder, paths in a dict to the working directory.
        overrides: Dotted path -> value, such as `{"training.epochs": 5, "strategies.0.rank": 8}`.
        data: Rows to train on instead of the recipe's `data.source`: a DataFrame, or one for each of `train`,
            `validation` and `test`. Their columns are kept and their index is dropped. They are written to the
            recipe's store as Parquet files named by their content, so equal rows are encoded once.

    Returns:
        The checked recipe. Nothing is computed yet.

    Raises:
        RecipeError: A field is unknown, missing or wrong, or a DataFrame cannot be written. The message names the
            field, its value and how to fix it; further mistakes are in its notes.
    """
    changes = [f"{path}={_yaml_line(path, value)}" for path, value in (overrides or {}).items()]
    if data is not None:
        source = {"kind": "parquet", "train": "not written yet"}
        store = _load(recipe, [*changes, f"data.source={to_yaml_line(source)}"]).execution.store
        files = store_frames(data, store)
        changes.append(f"data.source={to_yaml_line({'kind': 'parquet', **files})}")
    return _load(recipe, changes)


def _load(recipe: RecipeLike, changes: Sequence[str]) -> Recipe:
    if isinstance(recipe, str | Path):
        return load(recipe, list(changes))
    if not changes and isinstance(recipe, Recipe):
        return recipe
    given = None
    if isinstance(recipe, Recipe):
        document = recipe.model_dump(mode="json")
        if recipe.given:
            given = Given(recipe.given.file, recipe.given.text, (*recipe.given.overrides, *changes))
    elif isinstance(recipe, Mapping):
        document = deepcopy(dict(recipe))
    else:
        problem = "must be a path, a dict or a Recipe"
        raise RecipeError("recipe", recipe, problem, 'Write load_recipe("recipe.yaml"), for example')
    for change in changes:
        set_value(document, *parse_override(change))
    return check(document, given=given)


def _yaml_line(path: str, value: Any) -> str:
    try:
        return to_yaml_line(value)
    except ValueError:
        hint = "Give plain values: strings, numbers, booleans, None, lists and dicts"
        raise RecipeError(path, value, f"cannot be written in a recipe ({type(value).__name__})", hint) from None
