"""The gate's settings: what a challenger must show before it replaces the champion."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt, ValidationError

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.recipe.loading import read
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.recipe.validation_errors import first_mistake
from pipeline_lib.util.section import Section

Distance = Annotated[float, Field(ge=0, le=1)]


class Floor(Section):
    """A bound that the challenger must meet, independently of the champion."""

    metric: str
    """The metric to check."""
    bound: float
    """The worst acceptable value: the lowest, or the highest for metrics where lower is better."""
    column: str | None = None
    """Only check test rows with `value` in this column of `predictions.parquet`; empty: all test rows."""
    value: str | None = None
    """The value in the column."""


class DriftLimits(Section):
    """Largest allowed distances of the new rows from the champion's data, from 0 to 1; empty (null) means no limit.

    The defaults only block drift that cannot be chance. When 50 rows are drawn from the champion's own data, 99 of 100
    draws stay below 0.60 (labels, with 77 of them; 0.32 with 12), 0.23 (length) and 0.16 (words), as measured with 100
    draws each on banking77, SST-2 and the support messages. With 200 new rows: 0.30, 0.14 and 0.15.
    """

    labels: Distance | None = 0.8
    """Total variation distance of the label shares; for regression, Kolmogorov-Smirnov distance of the numbers."""
    length: Distance | None = 0.5
    """Kolmogorov-Smirnov distance of the text lengths in characters."""
    words: Distance | None = 0.5
    """Share of the words that do not occur in the champion's data."""
    embeddings: Distance | None = 0.8
    """How well a classifier separates new rows from the champion's by the base model's embeddings: about the share of
    new rows of a different kind. By chance alone it can reach 0.2 with 50 new rows, and 0.05 with 1,000."""
    least_rows: PositiveInt = 100
    """With fewer new rows, drift is reported but does not block: few rows are seldom a fair sample of what comes."""


class Gate(Section):
    """Conditions for promoting a challenger to champion."""

    model: Annotated[str, Field(pattern=r"^[\w][\w.-]*$", max_length=100)] | None = None
    """Name of the registered model in MLflow; empty: the recipe's name."""
    metric: str | None = None
    """The metric to compare champion and challenger by; empty: the objective's main metric."""
    margin: NonNegativeFloat = 0.0
    """How much worse the challenger may be, in the metric's unit (non-inferiority margin); 0: it must be better."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level: a challenger worse by the margin or more is promoted with a probability of at most 1 - this."""
    floors: tuple[Floor, ...] = ()
    """Bounds that the challenger must meet, on all test rows or a part of them."""
    drift: DriftLimits = DriftLimits()
    """Limits on the drift of the data."""
    seeds: PositiveInt = 1
    """Number of challengers to train, with one seed each, so that a lucky seed is not promoted."""

    def name(self, recipe: Recipe) -> str:
        """The registered model's name."""
        return self.model or recipe.name

    def metric_for(self, recipe: Recipe) -> str:
        """The name of the metric to compare by."""
        return self.metric or recipe.objective.main_metric

    def check(self, recipe: Recipe) -> None:
        """Raise RecipeError if the gate's metrics or floors do not fit the recipe."""
        metrics: dict[str, Metric] = dict(recipe.objective.metrics())
        requested = {"gate.metric": self.metric}
        requested |= {f"gate.floors.{index}.metric": floor.metric for index, floor in enumerate(self.floors)}
        for field, name in requested.items():
            if name is not None and name not in metrics:
                hint = f"Choose one of {', '.join(metrics)}"
                raise RecipeError(field, name, "is not a metric of this objective", hint)
            if name and metrics[name].of_text and name not in (recipe.evaluation.metrics or metrics):
                problem = "needs generated text, but no metric in evaluation.metrics makes the model generate any"
                raise RecipeError(field, name, problem, f"Add {name} to evaluation.metrics")
        for index, floor in enumerate(self.floors):
            if (floor.column is None) != (floor.value is None):
                problem = "has a column without a value, or a value without a column"
                raise RecipeError(f"gate.floors.{index}", floor.metric, problem, "Give both or neither")


def load_gate(path: Path | None) -> Gate:
    """Load the gate from a YAML file, or return the default one; raises RecipeError with all problems."""
    document = read(path, "--gate")[1] if path else {}
    try:
        return Gate.model_validate(document)
    except ValidationError as error:
        raise first_mistake(error, Gate, document) from None
