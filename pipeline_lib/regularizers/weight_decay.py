"""Pull the weights toward zero."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection


class WeightDecay(RegularizerSection):
    """Decoupled weight decay: w <- w - rate * value * w (Loshchilov and Hutter 2019, algorithm 2, line 12).

    It is applied to matrices only: biases and norm weights are left out, as in BERT's own code.
    """

    kind: Literal["weight_decay"]
    value: Annotated[float, Field(ge=0)] = 0.01
    """Strength of the pull."""

    def weight_decay(self) -> float:
        """The strength."""
        return self.value
