"""Which runs a sweep consists of: recipes x values x seeds."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import parse, put
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.util.section import Section


class Sweep(Section):
    """What is tried on each recipe of a sweep."""

    vary: tuple[str, ...] = ()
    """Fields with the values that they take, as path=[value, value ...]; all combinations are tried."""
    seeds: PositiveInt = 1
    """How many seeds each combination is trained with, from the recipe's own on, all on the same rows."""
    metric: str | None = None
    """The metric of the comparison; empty: the objective's main metric."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of intervals and of what counts as beyond chance."""
    pruner: Literal["median", "halving"] | None = None
    """Ends trainings that have no hope, by their validation score after an epoch (Optuna's pruners).

    median: its best is worse than the median of the trials that have ended, of which there must be three; halving: it
    is not in the better half of those that got as far, asked after epochs 1, 2, 4, 8 and so on. Empty: none is ended.
    """


@dataclass(frozen=True)
class Trial:
    """One run: `variant` names what is compared, of which there may be several seeds."""

    variant: str
    recipe: Recipe


def trials(recipes: Sequence[Recipe], sweep: Sweep) -> list[Trial]:
    """All runs; raises RecipeError for a value that a recipe does not take, before anything runs."""
    axes = [_axis(each) for each in sweep.vary]
    found = [trial for recipe in recipes for values in product(*axes) for trial in _seeds(recipe, values, sweep.seeds)]
    names = [trial.recipe.name for trial in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        hint = "Give recipes names of their own, and each value once"
        raise RecipeError("sweep", twice, "is the name of two runs", hint)
    _refuse_unknown_metric(found, sweep)
    return found


def metric_of(recipe: Recipe, sweep: Sweep) -> str:
    """The name of the metric of the comparison."""
    return sweep.metric or recipe.objective.main_metric


def sweep_name(planned: Sequence[Trial], sweep: Sweep) -> str:
    """What a sweep is called: its recipes, and the fields that are varied."""
    recipes = " + ".join(dict.fromkeys(trial.variant.split()[0] for trial in planned))
    fields = " × ".join(parse(each)[0] for each in sweep.vary)
    return f"sweep of {recipes}" + (f" over {fields}" if fields else "")


def _axis(text: str) -> list[tuple[str, Any]]:
    path, values = parse(text)
    if not isinstance(values, list) or not values:
        hint = "Write, for example, training.learning_rate=[1e-5, 5e-5]"
        raise RecipeError("sweep.vary", text, "is not a list of values", hint)
    return [(path, value) for value in values]


def _seeds(recipe: Recipe, values: Sequence[tuple[str, Any]], seeds: int) -> Iterator[Trial]:
    document = recipe.model_dump(mode="json")
    for path, value in values:
        put(document, path, value)
    variant = " ".join([recipe.name, *(f"{path.rpartition('.')[2]}={_short(value)}" for path, value in values)])
    varied = check(document | {"name": _name(variant)})
    yield from (
        Trial(variant, varied if seeds == 1 else _named(varied.with_seed(varied.seed + index)))
        for index in range(seeds)
    )


def _named(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"name": _name(f"{recipe.name[:85]} seed={recipe.seed}")})


def _short(value: Any) -> str:
    """A value in a name: of parts with a kind, their kinds and what else was set."""
    if isinstance(value, list):
        return "+".join(map(_short, value)) or "none"
    if isinstance(value, dict) and "kind" in value:
        rest = [f"{name}:{_short(part)}" for name, part in value.items() if name != "kind"]
        return ",".join([value["kind"], *rest])
    return value if isinstance(value, str) else json.dumps(value)


def _name(text: str) -> str:
    """As a recipe's name may be."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")[:100]


def _refuse_unknown_metric(found: Sequence[Trial], sweep: Sweep) -> None:
    for trial in found:
        known = [*trial.recipe.objective.metrics()]
        if metric_of(trial.recipe, sweep) not in known:
            problem = f"is not a metric of {trial.recipe.name}"
            raise RecipeError("sweep.metric", sweep.metric, problem, f"Choose one of {', '.join(known)}")
