"""Decay the weights toward zero."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection


class WeightDecay(RegularizerSection):
    """Decoupled weight decay: w <- w - rate * value * w (Loshchilov and Hutter 2019, algorithm 2, line 12).

    It applies to matrices only, not to biases and norm weights, as in BERT's own code.
    """

    kind: Literal["weight_decay"]
    value: Annotated[float, Field(ge=0)] = 0.01
    """Decay coefficient."""

    def weight_decay(self) -> float:
        """Return `value`."""
        return self.value
