"""The short form: which recipe to run, and the values that change from run to run.

Each value becomes an override (`path=value`) of the chosen recipe, so the recipe's own checks and error messages apply.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import MISSING, CoreSchema

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import by_name, names
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
"""The presets in the form's list, each with default settings; anything else is an override of `strategies`."""

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
"""Field of the form -> the recipe's field that it changes."""


@dataclass(frozen=True)
class OneOf:
    """A text with a list of choices for a form; the list is read when the form is registered."""

    choices: Callable[[], list[str]]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A text with these choices; any text where there are none."""
        choices = self.choices()
        return {"type": "string", "enum": choices} if choices else {"type": "string"}


RecipeName = Annotated[str, OneOf(names)]
Strategy = Annotated[str, OneOf(lambda: [AS_IN_RECIPE, *STRATEGIES])]
Text = Annotated[str, WithJsonSchema({"type": "string"})]
Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
Rate = Annotated[float, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
Seed = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 2**32 - 1})]
Texts = Annotated[list[str], WithJsonSchema({"type": "array", "items": {"type": "string"}})]


def chosen(recipe: str, values: Mapping[str, Any], overrides: Any = UNSET) -> Recipe:
    """Load the recipe of this name with the form's values and then the overrides; raises RecipeError for a mistake.

    Args:
        recipe: The name of a recipe that this machine has.
        values: Field of the form -> its value; UNSET, None and an empty text leave the recipe as it is.
        overrides: More changes, each as path=value.
    """
    given = {field: value for field, value in values.items() if value not in (UNSET, None, "")}
    if "strategy" in given:
        given |= {"strategy": _preset(given["strategy"])}
    changes = [f"{PATHS[field]}={to_yaml_line(value)}" for field, value in given.items() if value is not None]
    return by_name(recipe, [*changes, *_listed(overrides)])


def _preset(name: Any) -> list[dict[str, Any]] | None:
    """The strategies of a preset; None leaves them as they are in the recipe."""
    if name == AS_IN_RECIPE:
        return None
    if name not in STRATEGIES:
        known = ", ".join([AS_IN_RECIPE, *STRATEGIES])
        raise RecipeError("strategy", name, "is not among the choices", f"Choose one of {known}")
    return STRATEGIES[name]


def _listed(overrides: Any) -> list[str]:
    if overrides in (UNSET, None):
        return []
    if not isinstance(overrides, (list, tuple)) or not all(isinstance(item, str) for item in overrides):
        hint = 'Give a list of path=value, such as ["training.warmup=0.1"]'
        raise RecipeError("overrides", overrides, "must be a list of strings", hint)
    return [item for item in overrides if item]
