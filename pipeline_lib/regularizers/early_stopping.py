"""Stop training when the validation score no longer improves."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline_lib.regularizers.base import RegularizerSection


class EarlyStopping(RegularizerSection):
    """Early stopping: training ends after `patience` validations without a better score (Prechelt 1998, section 2).

    The validation rows are scored after each epoch, or as `training.evaluate_every` says. The best checkpoint is
    selected by the same metric.
    """

    kind: Literal["early_stopping"]
    metric: str | None = None
    """Validation metric to monitor, or `loss`; empty: the objective's default metric."""
    patience: PositiveInt = 2
    """Number of validations without improvement before training stops."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Smallest improvement that counts; a smaller gain is not a better score."""
