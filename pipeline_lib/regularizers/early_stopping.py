"""Stop when validation no longer gets better."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline_lib.regularizers.base import RegularizerSection


class EarlyStopping(RegularizerSection):
    """Training ends after `patience` epochs without a better validation score (Prechelt 1998, section 2).

    The metric also decides which checkpoint is kept.
    """

    kind: Literal["early_stopping"]
    metric: str | None = None
    """Validation metric to watch, or `loss`; empty: the objective's own."""
    patience: PositiveInt = 2
    """How many epochs without a better score are allowed."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """A score counts as better only if it gains more than this."""
