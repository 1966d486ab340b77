"""The short form in Prefect's UI: which recipe to run, and the values that often change between runs.

Each value becomes an override (`path=value`) of the chosen recipe, so the recipe's own checks and error messages apply.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import MISSING, CoreSchema

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import load_by_name, names
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.recipe.yaml_text import to_yaml_line

UNSET: Any = MISSING
"""The default of an optional field. Unlike None it leaves no default in the schema: the form shows an empty field."""

AS_IN_RECIPE = "as in the recipe"
STRATEGIES: dict[str, list[dict[str, Any]]] = {
    "all parameters": [{"kind": "full"}],
    "last 2 layers": [{"kind": "partial", "last_layers": 2}],
    "head only": [{"kind": "partial"}],
    "biases only (BitFit)": [{"kind": "partial", "biases": True}],
    "LoRA": [{"kind": "lora"}],
    "(IA)3": [{"kind": "ia3"}],
    "bottleneck adapters": [{"kind": "bottleneck"}],
    "prompt tuning": [{"kind": "prompt"}],
    "deep prompts": [{"kind": "prompt", "depth": "all"}],
}
"""Presets in the form's list, each with default settings; other strategies need an override of `strategies`."""

PATHS = {
    "train": "data.source.train",
    "test": "data.source.test",
    "base": "model.base",
    "strategy": "strategies",
    "epochs": "training.epochs",
    "learning_rate": "training.learning_rate",
    "batch_size": "training.batch_size",
    "seed": "seed",
    "name": "name",
}
"""Field of the form -> the recipe field that it changes."""


@dataclass(frozen=True)
class OneOf:
    """A string with a list of choices in the form; the list is read when the form is registered."""

    choices: Callable[[], list[str]]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of a string with these choices, or of any string if there are none."""
        choices = self.choices()
        return {"type": "string", "enum": choices} if choices else {"type": "string"}


RecipeName = Annotated[str, OneOf(names)]
Strategy = Annotated[str, OneOf(lambda: [AS_IN_RECIPE, *STRATEGIES])]
Text = Annotated[str, WithJsonSchema({"type": "string"})]
Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
Rate = Annotated[float, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
Seed = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 2**32 - 1})]
Texts = Annotated[list[str], WithJsonSchema({"type": "array", "items": {"type": "string"}})]


def load_short_form(recipe: str, values: Mapping[str, Any], overrides: Any = UNSET) -> Recipe:
    """Load a recipe by name and apply the form's values, then the overrides.

    Args:
        recipe: Name of a recipe available on this machine.
        values: Field of the form -> its value; UNSET, None and an empty string leave the recipe unchanged.
        overrides: Further changes, each as path=value.

    Raises:
        RecipeError: There is no such recipe, or a value is invalid.
    """
    given = {field: value for field, value in values.items() if value not in (UNSET, None, "")}
    if "strategy" in given:
        given |= {"strategy": _preset(given["strategy"])}
    changes = [f"{PATHS[field]}={to_yaml_line(value)}" for field, value in given.items() if value is not None]
    return load_by_name(recipe, [*changes, *_check_overrides(overrides)])


def _preset(name: Any) -> list[dict[str, Any]] | None:
    """Return the strategies of a preset; None keeps those of the recipe."""
    if name == AS_IN_RECIPE:
        return None
    if name not in STRATEGIES:
        known = ", ".join([AS_IN_RECIPE, *STRATEGIES])
        raise RecipeError("strategy", name, "is not an allowed value", f"Choose one of {known}")
    return STRATEGIES[name]


def _check_overrides(overrides: Any) -> list[str]:
    if overrides in (UNSET, None):
        return []
    if not isinstance(overrides, (list, tuple)) or not all(isinstance(item, str) for item in overrides):
        hint = 'Give a list of path=value, such as ["training.warmup=0.1"]'
        raise RecipeError("overrides", overrides, "must be a list of strings", hint)
    return [item for item in overrides if item]
