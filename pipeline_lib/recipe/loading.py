"""Load recipes from YAML files and apply `path=value` overrides from the command line."""

import os
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import Given, Recipe, check
from pipeline_lib.recipe.yaml_text import MAX_DEPTH, InvalidYaml, parse_yaml, read_limited

RECIPES = "TUNESMITH_RECIPES"
"""Environment variable with the folder of recipes that a worker can run by name."""
PACKAGED = Path(__file__).parents[2] / "deployments" / "recipes"
"""Folder of the recipes bundled with the project."""


def load(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe file, apply `path=value` overrides and check it; raises RecipeError with all mistakes."""
    text, document = read(Path(path))
    for override in overrides:
        set_value(document, *parse_override(override))
    file = Path(path).absolute()
    return check(document, file.parent, Given(str(file), text, tuple(overrides)))


def load_by_name(name: str, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Load a recipe by name from the folder in $TUNESMITH_RECIPES, by default from the bundled recipes.

    Raises RecipeError if the folder has no recipe of this name.
    """
    known = names()
    if name not in known:  # also keeps a name such as ../other from leaving the folder
        hint = f"Choose one of {', '.join(known)}" if known else f"Set ${RECIPES} to a folder of recipes"
        raise RecipeError("recipe", name, f"there is no such recipe in {_folder()}", hint)
    return load(_folder() / f"{name}.yaml", overrides)


def names() -> list[str]:
    """Return the names of the recipes available on this machine."""
    return sorted(file.stem for file in _folder().glob("*.yaml"))


def _folder() -> Path:
    return Path(os.environ.get(RECIPES) or PACKAGED)


def read(path: Path, field: str = "recipe") -> tuple[str, dict[str, Any]]:
    """Read a YAML file; return its text and its fields.

    Raises RecipeError if the file cannot be read, is not valid YAML or is not a mapping.
    """
    try:
        text = read_limited(path)
        document = parse_yaml(text)
    except InvalidYaml as error:
        raise RecipeError(field, str(path), f"is not valid YAML ({error})", "Fix the file there") from None
    except (OSError, ValueError) as error:  # ValueError: invalid UTF-8, or a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise RecipeError(field, str(path), f"cannot be read ({why})", "Give the path of a YAML file") from None
    if not isinstance(document, dict):
        raise RecipeError(field, str(path), "must be a mapping of fields", "Start from one in deployments/recipes")
    return text, document


def parse_override(override: str) -> tuple[str, Any]:
    """Split `path=value` into the path and the value, read as YAML; raises RecipeError if it is malformed."""
    path, separator, value = override.partition("=")
    parts = path.split(".")
    if not separator or not all(parts):
        raise RecipeError(
            "override", override, "must have the form path=value", "Write, for example, training.epochs=5"
        )
    if len(parts) > MAX_DEPTH:
        raise RecipeError("override", override, f"has a path of more than {MAX_DEPTH} parts", "Check the path")
    try:
        return path, parse_yaml(value)
    except InvalidYaml as error:
        why = f"its value is not valid YAML ({error})"
        raise RecipeError("override", override, why, "Check its brackets, quotes and colons") from None


def set_value(document: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a path such as `a.b.0.c` in place; raises RecipeError if the path does not fit the document."""
    *parents, last = path.split(".")
    place: Any = document
    try:
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        place[int(last) if isinstance(place, list) else last] = value
    except IndexError:
        problem = f"names an item of a list that has {len(place)} item{'s' * (len(place) != 1)}"
        raise RecipeError("override", f"{path}={value}", problem, "The first item has the index 0") from None
    except (TypeError, AttributeError, ValueError):
        raise RecipeError("override", f"{path}={value}", "is not a field of this recipe", "Check the path") from None
