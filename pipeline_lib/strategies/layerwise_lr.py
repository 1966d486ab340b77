"""Let the lower layers learn more slowly, or give some parameters a rate of their own."""

import fnmatch
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from pipeline_lib.strategies.base import ParameterInfo, StrategySection
from pipeline_lib.util.section import Section


class Rate(Section):
    """The rate of some parameters."""

    pattern: Annotated[str, Field(min_length=1)]
    """Which parameters, by name, as a shell pattern: `*.lora_B.*`."""
    scale: NonNegativeFloat
    """Their learning rate, relative to the recipe's."""


class LayerwiseLR(StrategySection):
    """Discriminative fine-tuning (ULMFiT, Howard and Ruder 2018, section 3.2): each layer has its own rate,

    rate_l = rate * decay ** (L + 1 - l) for layer l of L. All above the layers (l = L + 1), the head among it, learns
    at the recipe's rate, and the embeddings (l = 0) slowest. The paper's decay is 1 / 2.6. It trains nothing itself:
    put it beside a strategy that does.
    """

    kind: Literal["layerwise_lr"]
    decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """A layer's rate, relative to the layer's above it; empty: the same rate for all that `rates` does not name."""
    rates: tuple[Rate, ...] = ()
    """Rates of parameters by name, in place of what `decay` gives them; the first pattern that fits counts."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.decay is None and not self.rates:
            raise ValueError("changes no rate without decay or rates. Set decay, such as 0.9")
        return self

    def lr_scale(self, place: ParameterInfo) -> float:
        """The parameter's own rate where one is given, else its layer's."""
        for rate in self.rates:
            if fnmatch.fnmatchcase(place.plain, rate.pattern):
                return rate.scale
        return 1.0 if self.decay is None else self.decay ** (place.layers + 1 - place.depth)
