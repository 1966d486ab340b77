"""The recipe's section `evaluation`."""

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from pipeline_lib.evaluation.slices import ByColumn, Slice
from pipeline_lib.util.section import Section


class Evaluation(Section):
    """How the trained model is evaluated."""

    metrics: tuple[str, ...] = ()
    """Metrics to report; empty: all metrics of the objective."""
    intervals: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the bootstrap intervals."""
    baselines: tuple[Literal["untrained", "majority", "bag_of_words", "copy"], ...] = ()
    """Baselines for comparison: the model before training, or a simple predictor; copy: seq2seq's source text as is."""
    slices: tuple[Slice, ...] = ()
    """Parts of the test rows to score separately as well; changing them does not retrain the model."""

    @property
    def columns(self) -> dict[str, str]:
        """The source columns that slices refer to, by the recipe field that names them."""
        columns = {}
        for index, part in enumerate(self.slices):
            if isinstance(part, ByColumn):
                columns[f"evaluation.slices.{index}.column"] = part.column
        return columns
