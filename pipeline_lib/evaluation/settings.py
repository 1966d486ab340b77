"""The recipe's section `evaluation`."""

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from pipeline_lib.evaluation.slices import ByColumn, Slice
from pipeline_lib.util.section import Section


class Evaluation(Section):
    """How the result is measured."""

    metrics: tuple[str, ...] = ()
    """Metrics to report; empty: all that the objective knows."""
    intervals: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the bootstrap intervals."""
    baselines: tuple[Literal["untrained", "majority", "bag_of_words", "copy"], ...] = ()
    """What to compare with: the model before training, and simple predictors; copy: seq2seq's source as it is."""
    slices: tuple[Slice, ...] = ()
    """Parts of the test rows that are scored by themselves too; to change them trains nothing anew."""

    @property
    def columns(self) -> dict[str, str]:
        """Field -> the source's column that it names, for slices."""
        named = ((index, each.column) for index, each in enumerate(self.slices) if isinstance(each, ByColumn))
        return {f"evaluation.slices.{index}.column": column for index, column in named}
