"""Train the head and a chosen part of the base."""

import fnmatch
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from pipeline_lib.strategies.base import ParameterInfo, StrategySection


class Partial(StrategySection):
    """The head is trained, and of the base what any of the fields below names; with none, the head alone.

    The last n layers: Lee, Tang and Lin 2019, "What would Elsa do?". Bias terms only: BitFit (Ben Zaken, Goldberg and
    Ravfogel 2022, section 3), where of W x + b only b is learned. Gradual unfreezing: ULMFiT (Howard and Ruder 2018,
    section 3.3), where the uppermost layer is trained for an epoch, then one more at each epoch.

    What stays frozen in all epochs below the lowest trained layer computes without dropout: what it puts out never
    changes, so that it is computed once and kept.
    """

    kind: Literal["partial"]
    last_layers: Annotated[int, Field(ge=0)] = 0
    """How many of the uppermost layers are trained, with all that stands above them."""
    patterns: tuple[str, ...] = ()
    """Parameters trained by name, as shell patterns: `*attention*query*`."""
    biases: bool = False
    """Train all bias terms."""
    rate: PositiveFloat | None = None
    """Learning rate of what is trained, relative to the recipe's; empty: 1, for biases 20, for the head alone 100."""
    gradual: bool = False
    """Begin with what stands above the layers, and train one layer more at each epoch; needs `last_layers`."""

    @model_validator(mode="after")
    def _has_layers_to_thaw(self) -> Self:
        if self.gradual and not self.last_layers:
            raise ValueError("gradual thaws layer by layer, and last_layers is 0. Set last_layers, or remove gradual")
        return self

    def is_trainable(self, place: ParameterInfo) -> bool:
        """The uppermost layers, the named parameters and the biases, each where asked for."""
        upper = self.last_layers > 0 and place.depth > place.layers - self.last_layers
        named = any(fnmatch.fnmatchcase(place.plain, pattern) for pattern in self.patterns)
        return upper or named or (self.biases and place.name.endswith("bias"))

    def lr_scale(self, place: ParameterInfo) -> float:
        """`rate` for what it trains."""
        return self.head_lr_scale() if self.is_trainable(place) and not place.is_head else 1.0

    def head_lr_scale(self) -> float:
        """`rate`; the fewer numbers there are to move, the further they have to."""
        of_few = 20.0 if self.biases else 100.0
        return self.rate or (1.0 if self.last_layers or self.patterns else of_few)

    def is_unfrozen(self, place: ParameterInfo, epoch: int) -> bool:
        """From `start_epoch` on; where it is gradual, as many epochs later as there are layers from the top."""
        later = place.layers + 1 - place.depth if self.gradual else 0
        return epoch >= self.start_epoch + later

    @property
    def is_bare(self) -> bool:
        """Whether nothing but the head is trained."""
        return not (self.last_layers or self.patterns or self.biases)
