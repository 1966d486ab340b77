"""The gate's settings: what a challenger has to show before it takes the champion's place."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt, ValidationError

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.recipe.loading import read
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.recipe.validation_errors import explain
from pipeline_lib.util.section import Section

Distance = Annotated[float, Field(ge=0, le=1)]


class Floor(Section):
    """A bound that the challenger must keep whatever the champion does."""

    metric: str
    """The metric."""
    bound: float
    """The worst value that is let through: the lowest, or the highest where lower is better."""
    column: str | None = None
    """Only test rows that have `value` in this column (`predictions.parquet` lists them); empty: all."""
    value: str | None = None
    """What stands in the column."""


class DriftLimits(Section):
    """How far the new rows may be from the champion's; all distances are from 0 to 1, and empty (null) means no limit.

    The defaults stop what cannot be chance. Where 50 rows are drawn from the champion's own data, 99 of 100 draws stay
    below 0.60 (labels: 77 of them; 0.32 with 12), 0.23 (length) and 0.16 (words): measured on banking77, SST-2 and the
    support messages, 100 draws each. With 200 new rows: 0.30, 0.14 and 0.15.
    """

    labels: Distance | None = 0.8
    """Total variation distance of the label shares; of numbers, the Kolmogorov-Smirnov distance."""
    length: Distance | None = 0.5
    """Kolmogorov-Smirnov distance of the lengths of texts, in characters."""
    words: Distance | None = 0.5
    """Share of the words that are nowhere in the champion's data."""
    embeddings: Distance | None = 0.8
    """How well new rows can be told from the champion's by the base model's embeddings: about the share of new rows
    that are of another kind. By chance alone it can reach 0.2 over 50 new rows, and 0.05 over 1,000."""
    least_rows: PositiveInt = 50
    """With fewer new rows drift is shown, but blocks nothing: it would be mostly chance."""


class Gate(Section):
    """What decides whether a challenger is promoted."""

    model: Annotated[str, Field(pattern=r"^[\w][\w.-]*$", max_length=100)] | None = None
    """Name of the registered model in MLflow; empty: the recipe's name."""
    metric: str | None = None
    """What champion and challenger are compared by; empty: the objective's main metric."""
    margin: NonNegativeFloat = 0.0
    """By how much, in the metric's unit, the challenger may be worse (non-inferiority); 0: it must be better."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """How sure that must be: a challenger beyond the margin is let through at most in the rest of all cases."""
    floors: tuple[Floor, ...] = ()
    """Bounds that the challenger must keep, over all test rows or a part of them."""
    drift: DriftLimits = DriftLimits()
    """How far the data may have moved."""
    seeds: PositiveInt = 1
    """How many challengers are trained, with one seed each, so that luck is not promoted."""

    def name(self, recipe: Recipe) -> str:
        """The registered model's name."""
        return self.model or recipe.name

    def compared_by(self, recipe: Recipe) -> str:
        """The name of the metric that decides."""
        return self.metric or recipe.objective.main_metric

    def check(self, recipe: Recipe) -> None:
        """Raise RecipeError where the gate asks for what the recipe's objective does not know."""
        known: dict[str, Metric] = dict(recipe.objective.metrics())
        asked = {"gate.metric": self.metric} | {f"gate.floors.{i}.metric": f.metric for i, f in enumerate(self.floors)}
        for field, name in asked.items():
            if name is not None and name not in known:
                hint = f"Choose one of {', '.join(known)}"
                raise RecipeError(field, name, "is not a metric of this objective", hint)
            if name and known[name].of_text and name not in (recipe.evaluation.metrics or known):
                problem = "is taken of written text, and no metric of evaluation.metrics has the model write any"
                raise RecipeError(field, name, problem, f"Add {name} to evaluation.metrics")
        for index, floor in enumerate(self.floors):
            if (floor.column is None) != (floor.value is None):
                problem = "has a column without a value, or a value without a column"
                raise RecipeError(f"gate.floors.{index}", floor.metric, problem, "Give both or neither")


def load_gate(path: Path | None) -> Gate:
    """The gate in a YAML file, or the default one; raises RecipeError with all mistakes."""
    document = read(path, "--gate")[1] if path else {}
    try:
        return Gate.model_validate(document)
    except ValidationError as error:
        raise explain(error, Gate, document) from None
