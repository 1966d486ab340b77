"""Names of flow runs: the name that a user typed, otherwise the recipe's name and its changed values."""

import functools
import re
from importlib import resources
from typing import Any

from prefect.runtime import flow_run

from pipeline_lib.recipe.short_form import AS_IN_RECIPE

OLD_PAGE = re.compile(
    "(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|chi"
    r"|psi|omega)\d+-[a-z]+(-[a-z]+)?"
)
NEW_PAGE = re.compile(
    "(Awesome|Bespoke|Electronic|Elegant|Ergonomic|Fantastic|Fresh|Frozen|Generic|Gorgeous|Handcrafted|Handmade"
    "|Incredible|Intelligent|Licensed|Luxurious|Modern|Oriental|Practical|Recycled|Refined|Rustic|Sleek|Small|Soft"
    "|Tasty|Unbranded)-[A-Z][A-Za-z -]*"
)
"""Names that Prefect's two run dialogs fill in: a star with a number (one without a number is treated as typed by a
user), or an adjective and an animal."""
LONGEST = 100


def run_name() -> str:
    """Return a flow run's name (`flow_run_name`): as typed by a user, otherwise the recipe and its changed values."""
    name = flow_run.name or ""
    if not is_generated(name):
        return name
    return describe_run(flow_run.parameters) or name


def is_generated(name: str) -> bool:
    """Return whether Prefect generated this name."""
    if not name or OLD_PAGE.fullmatch(name) or NEW_PAGE.fullmatch(name):
        return True
    words = name.split("-")
    return len(words) == 2 and all(word in _cool_words() for word in words)


def describe_run(parameters: dict[str, Any]) -> str:
    """Describe a run by its parameters.

    The recipe's name and the values changed in a form; for a sweep the names of all recipes, for batch scoring the
    model and the data.
    """
    if isinstance(recipes := parameters.get("recipes"), list):
        return ", ".join(dict.fromkeys(_value(recipe, "name") for recipe in recipes))[:LONGEST]
    if request := parameters.get("request"):
        return f"{_value(request, 'model')} on {_value(request, 'data')}"[:LONGEST]
    recipe = parameters.get("recipe")
    if not isinstance(recipe, str):
        return _value(recipe, "name")[:LONGEST]
    changes = [parameters.get("name"), parameters.get("strategy")]
    words = [str(word) for word in changes if isinstance(word, str) and word not in ("", AS_IN_RECIPE)]
    numbers = ("epochs", "learning_rate", "batch_size", "seed")
    words += [f"{name}={parameters[name]:g}" for name in numbers if isinstance(parameters.get(name), int | float)]
    overrides = parameters.get("overrides")
    for override in overrides if isinstance(overrides, list) else []:
        path, _, value = str(override).partition("=")
        words.append(f"{path.rpartition('.')[2]}={value}")
    return " ".join([recipe, *words])[:LONGEST]


def _value(whole: Any, name: str) -> str:
    """Return a field of an object, or of a dictionary not validated yet, as text; lists are joined with commas."""
    value = whole.get(name) if isinstance(whole, dict) else getattr(whole, name, None)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")


@functools.cache
def _cool_words() -> frozenset[str]:
    """Return the words of the package coolname, from which Prefect generates run names."""
    files = [file for file in resources.files("coolname").joinpath("data").iterdir() if file.name.endswith(".txt")]
    return frozenset(word for file in files for word in file.read_text(encoding="utf-8").split())
