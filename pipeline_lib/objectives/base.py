"""The contract of an objective: what is learned, from the row to the score."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline_lib.schema import RecipeError, Section

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from matplotlib.figure import Figure
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.evaluation.outcome import Metric, Outcome
    from pipeline_lib.recipe import Columns, Recipe


class ObjectiveSection(Section):
    """What is learned. Each method is one stage on the way of a row through the pipeline."""

    main_metric: ClassVar[str]

    def metrics(self) -> Mapping[str, "Metric"]:
        """The metrics that this objective knows, by name."""
        raise NotImplementedError

    def columns(self, columns: "Columns") -> dict[str, str]:
        """The source's columns that are read: role -> column name."""
        raise NotImplementedError

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row by role, as it is kept; raises ValueError with the reason where it cannot be used."""
        raise NotImplementedError

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Arrow types of what `clean` and `encode` give."""
        raise NotImplementedError

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Token ids of clean rows, column by column."""
        raise NotImplementedError

    def labels(self, column: "pyarrow.ChunkedArray") -> list[str]:
        """The label names that stand in a label column, sorted; empty where there are none."""
        return []

    def model(self, base: str, labels: Sequence[str]) -> "tuple[PreTrainedModel, set[str]]":
        """The pre-trained model from a local folder with this objective's head, and the names of the head's
        parameters: those that the base does not have."""
        raise NotImplementedError

    def targets(self, column: "pyarrow.ChunkedArray", labels: Sequence[str]) -> "numpy.ndarray":
        """What the model is to put out, row by row."""
        raise NotImplementedError

    def loss(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Sum of the rows' losses; the loop divides it by the number of rows in the whole step."""
        raise NotImplementedError

    def outcome(self, logits: "numpy.ndarray", targets: "numpy.ndarray") -> "Outcome":
        """Predictions beside the truth, for the metrics."""
        raise NotImplementedError

    def answers(self, logits: "numpy.ndarray", labels: Sequence[str]) -> dict[str, list[Any]]:
        """Predictions in the user's terms, column by column: what is served and what predictions.parquet holds."""
        raise NotImplementedError

    def figures(self, outcome: "Outcome", labels: Sequence[str]) -> "dict[str, Figure]":
        """Figures of an evaluation, by name."""
        return {}

    def per_class(self, outcome: "Outcome", labels: Sequence[str]) -> list[dict[str, Any]]:
        """Metrics of each label; empty where there are none."""
        return []

    def refuse_unknown_metrics(self, recipe: "Recipe") -> None:
        """Raise RecipeError where the recipe asks for a metric that this objective has not."""
        for index, name in enumerate(recipe.evaluation.metrics):
            self._refuse_unknown_metric(f"evaluation.metrics.{index}", name, [])
        for index, regularizer in enumerate(recipe.regularizers):
            watched: str | None = getattr(regularizer, "metric", None)
            if watched:
                self._refuse_unknown_metric(f"regularizers.{index}.metric", watched, ["loss"])

    def _refuse_unknown_metric(self, field: str, name: str, more: list[str]) -> None:
        if name not in (known := [*self.metrics(), *more]):
            raise RecipeError(field, name, "is no metric of this objective", f"Choose one of {', '.join(known)}")

    def refuse_unfit_baselines(self, recipe: "Recipe") -> None:
        """Raise RecipeError where a baseline of the recipe cannot guess what this objective learns."""
