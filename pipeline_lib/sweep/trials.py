"""The runs of a sweep: recipes x values x seeds."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import parse_override, set_value
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.util.section import Section


class Sweep(Section):
    """Settings of a sweep: what to vary, and how to compare and prune the runs."""

    vary: tuple[str, ...] = ()
    """Fields to vary and their values, as path=[value, value ...]; all combinations are tried."""
    seeds: PositiveInt = 1
    """Number of seeds for each combination, counting up from the recipe's own; all use the same rows."""
    metric: str | None = None
    """The metric to compare by; empty: the objective's main metric."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the intervals and of the tests for differences beyond chance."""
    pruner: Literal["median", "halving"] | None = None
    """Stops unpromising trainings early, by their validation scores (Optuna's pruners).

    median: stops a training whose best score is worse than the median of at least three completed trials; halving:
    after validations 1, 2, 4, 8 and so on, stops a training that is not in the better half of those that got as far.
    Empty: no training is stopped.
    """


@dataclass(frozen=True)
class Trial:
    """One run of a sweep; several seeds of the same settings share a `variant`."""

    variant: str
    recipe: Recipe


def trials(recipes: Sequence[Recipe], sweep: Sweep) -> list[Trial]:
    """List all runs; raises RecipeError for invalid values, before anything runs."""
    axes = [_axis(field) for field in sweep.vary]
    planned: list[Trial] = []
    for recipe in recipes:
        for values in product(*axes):
            planned += _seeds(recipe, values, sweep.seeds)
    names = [trial.recipe.name for trial in planned]
    if twice := next((name for name in names if names.count(name) > 1), None):
        hint = "Give each recipe its own name, and list each value once"
        raise RecipeError("sweep", twice, "is the name of two runs", hint)
    _refuse_unknown_metric(planned, sweep)
    return planned


def metric_of(recipe: Recipe, sweep: Sweep) -> str:
    """The name of the metric to compare by."""
    return sweep.metric or recipe.objective.main_metric


def sweep_name(planned: Sequence[Trial], sweep: Sweep) -> str:
    """The name of a sweep: its recipes and the fields that vary."""
    recipes = " + ".join(dict.fromkeys(trial.variant.split()[0] for trial in planned))
    fields = " × ".join(parse_override(field)[0] for field in sweep.vary)
    return f"sweep of {recipes}" + (f" over {fields}" if fields else "")


def _axis(text: str) -> list[tuple[str, Any]]:
    """The (path, value) pairs of one field that varies."""
    path, values = parse_override(text)
    if not isinstance(values, list) or not values:
        hint = "Write, for example, training.learning_rate=[1e-5, 5e-5]"
        raise RecipeError("sweep.vary", text, "must be a list of values", hint)
    return [(path, value) for value in values]


def _seeds(recipe: Recipe, values: Sequence[tuple[str, Any]], seeds: int) -> Iterator[Trial]:
    """One trial for each seed of a recipe with these values."""
    document = recipe.model_dump(mode="json")
    for path, value in values:
        set_value(document, path, value)
    variant = " ".join([recipe.name, *(f"{path.rpartition('.')[2]}={_shorten(value)}" for path, value in values)])
    varied = check(document | {"name": _name(variant)})
    yield from (
        Trial(variant, varied if seeds == 1 else _name_recipe(varied.with_seed(varied.seed + index)))
        for index in range(seeds)
    )


def _name_recipe(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"name": _name(f"{recipe.name[:85]} seed={recipe.seed}")})


def _shorten(value: Any) -> str:
    """A short form of a value for names; sections are shown as their kind and the fields that were set."""
    if isinstance(value, list):
        return "+".join(map(_shorten, value)) or "none"
    if isinstance(value, dict) and "kind" in value:
        rest = [f"{name}:{_shorten(part)}" for name, part in value.items() if name != "kind"]
        return ",".join([value["kind"], *rest])
    return value if isinstance(value, str) else json.dumps(value)


def _name(text: str) -> str:
    """Turn a text into a valid recipe name."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")[:100]


def _refuse_unknown_metric(planned: Sequence[Trial], sweep: Sweep) -> None:
    for trial in planned:
        known = [*trial.recipe.objective.metrics()]
        if metric_of(trial.recipe, sweep) not in known:
            problem = f"is not a metric of {trial.recipe.name}"
            raise RecipeError("sweep.metric", sweep.metric, problem, f"Choose one of {', '.join(known)}")
