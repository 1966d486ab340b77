"""Recipe files: YAML from disk, with `path=value` overrides from the command line."""

import os
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe import Given, Recipe, check

RECIPES = "TUNESMITH_RECIPES"
"""The environment variable with the folder of recipes that a worker runs by name."""
PACKAGED = Path(__file__).parents[1] / "deployments" / "recipes"
"""The recipes that come with the project."""


def load(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe file, apply `path=value` overrides and check it; raises RecipeError with all mistakes."""
    text, document = read(Path(path))
    for override in overrides:
        put(document, *parse(override))
    file = Path(path).absolute()
    return check(document, file.parent, Given(str(file), text, tuple(overrides)))


def by_name(name: str, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """A recipe of the folder in $TUNESMITH_RECIPES, else of those that come with the project.

    Raises RecipeError where the folder has no recipe of this name.
    """
    known = names()
    if name not in known:  # so that no name leads out of the folder
        hint = f"Choose one of {', '.join(known)}" if known else f"Set ${RECIPES} to a folder of recipes"
        raise RecipeError("recipe", name, f"there is no such recipe in {_folder()}", hint)
    return load(_folder() / f"{name}.yaml", overrides)


def names() -> list[str]:
    """The names of the recipes that this machine has."""
    return sorted(file.stem for file in _folder().glob("*.yaml"))


def _folder() -> Path:
    return Path(os.environ.get(RECIPES) or PACKAGED)


def read(path: Path, field: str = "recipe") -> tuple[str, dict[str, Any]]:
    """The text of a YAML file, and its fields; raises RecipeError where it holds none."""
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.load(text, _Loader)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise RecipeError(field, str(path), f"cannot be read ({why})", "Give the path of a YAML file") from None
    except yaml.YAMLError as error:
        raise RecipeError(field, str(path), f"is not sound YAML ({_flaw(error)})", "Mend the file there") from None
    if not isinstance(document, dict):
        raise RecipeError(field, str(path), "holds no fields", "Start from one in deployments/recipes")
    return text, document


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: of two sections the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises ConstructorError at a key's second place."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _flaw(error: yaml.YAMLError) -> str:
    """What is wrong in a YAML file, and in which line of it."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]


def parse(override: str) -> tuple[str, Any]:
    """The path and the value, read as YAML, of `path=value`; raises RecipeError where it is none."""
    path, given, value = override.partition("=")
    if not given or not all(path.split(".")):
        raise RecipeError("override", override, "is not path=value", "Write, for example, training.epochs=5")
    try:
        return path, yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        why = f"its value is not sound YAML ({_flaw(error)})"
        raise RecipeError("override", override, why, "Check its brackets, quotes and colons") from None


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Set `a.b.0.c` in place; raises RecipeError where the path leads nowhere."""
    *parents, last = path.split(".")
    place: Any = document
    try:
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (TypeError, AttributeError, ValueError, IndexError):
        raise RecipeError("override", f"{path}={value}", "leads to no field of this recipe", "Check the path") from None
