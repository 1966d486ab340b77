"""Fine-tune language models: recipes, plans, runs and predictions from Python.

    from pipeline_lib import Predictor, load_recipe, run

    recipe = load_recipe("recipe.yaml", {"training.epochs": 5})
    outcome = run(recipe)
    Predictor.load(outcome).predict(["Where is my parcel?"])

The names below are imported when they are first used, so that importing this package costs nothing. The package never
imports Prefect: `run` takes the steps as plain calls.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_lib.api.compare import compare
    from pipeline_lib.api.predictor import Predictor
    from pipeline_lib.api.recipes import load_recipe
    from pipeline_lib.api.runs import plan, run
    from pipeline_lib.recipe.schema import Recipe

__all__ = ["Predictor", "Recipe", "compare", "load_recipe", "plan", "run"]

MODULES = {
    "Predictor": "pipeline_lib.api.predictor",
    "Recipe": "pipeline_lib.recipe.schema",
    "compare": "pipeline_lib.api.compare",
    "load_recipe": "pipeline_lib.api.recipes",
    "plan": "pipeline_lib.api.runs",
    "run": "pipeline_lib.api.runs",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names, for completion in editors and notebooks."""
    return sorted({*globals(), *__all__})


# Before MLflow is imported. Its thread that reports usage also breaks calls of other threads (KeyError in os.environ).
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
