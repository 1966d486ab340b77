"""Train the head and a selected part of the base."""

import fnmatch
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from pipeline_lib.strategies.base import TRAINS_MATRICES, ParameterInfo, StrategySection


class Partial(StrategySection):
    """Partial fine-tuning: trains the head and the parts of the base selected below; by default only the head.

    The last n layers: Lee, Tang and Lin 2019, "What would Elsa do?". Bias terms only: BitFit (Ben Zaken, Goldberg and
    Ravfogel 2022, section 3), where only b of W x + b is learned. Gradual unfreezing: ULMFiT (Howard and Ruder 2018,
    section 3.3), where training starts with the top layer and adds one layer per epoch.

    Layers that stay frozen in all epochs, below the lowest trained layer, run without dropout. Their outputs never
    change, so they are computed once and cached.
    """

    kind: Literal["partial"]
    last_layers: Annotated[int, Field(ge=0)] = 0
    """Number of top layers to train, together with everything above them."""
    patterns: tuple[str, ...] = ()
    """Shell patterns of further parameters to train, such as `*attention*query*`."""
    biases: bool = False
    """Train all bias terms."""
    rate: PositiveFloat | None = None
    """Learning rate of the trained parameters, relative to the recipe's; empty: 1, or 20 for biases only, or 100 for
    the head only."""
    gradual: bool = False
    """Start with the parameters above the layers and unfreeze one more layer per epoch; requires `last_layers`."""

    @model_validator(mode="after")
    def _has_layers_to_unfreeze(self) -> Self:
        if self.gradual and not self.last_layers:
            raise ValueError("gradual requires last_layers, which is 0. Set last_layers, or remove gradual")
        return self

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Select the top layers, the parameters that match a pattern, and the biases, as far as requested."""
        in_top_layers = self.last_layers > 0 and info.depth > info.layers - self.last_layers
        matches = any(fnmatch.fnmatchcase(info.plain, pattern) for pattern in self.patterns)
        return in_top_layers or matches or (self.biases and info.name.endswith("bias"))

    def lr_scale(self, info: ParameterInfo) -> float:
        """Return `rate` for the selected parameters of the base."""
        return self.head_lr_scale() if self.is_trainable(info) and not info.is_head else 1.0

    def head_lr_scale(self) -> float:
        """Return `rate`, or a default that is higher the fewer parameters are trained."""
        if self.rate:
            return self.rate
        if self.last_layers or self.patterns:
            return 1.0
        return 20.0 if self.biases else 100.0

    def is_unfrozen(self, info: ParameterInfo, epoch: int) -> bool:
        """Return whether the epoch has reached `start_epoch`, plus the layer's distance from the top if gradual."""
        delay = info.layers + 1 - info.depth if self.gradual else 0
        return epoch >= self.start_epoch + delay

    def why_not_quantized(self) -> str:
        """Return that it trains the matrices of whole layers, unless it trains biases or the head only."""
        return TRAINS_MATRICES if self.last_layers else ""

    @property
    def is_bare(self) -> bool:
        """Whether only the head is trained."""
        return not (self.last_layers or self.patterns or self.biases)
