"""Scale the learning rate by layer or by parameter name."""

import fnmatch
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from pipeline_lib.strategies.base import ParameterInfo, StrategySection
from pipeline_lib.util.section import Section


class Rate(Section):
    """A learning rate for parameters selected by name."""

    pattern: Annotated[str, Field(min_length=1)]
    """Shell pattern of parameter names, such as `*.lora_B.*`."""
    scale: NonNegativeFloat
    """Learning rate relative to the recipe's."""


class LayerwiseLR(StrategySection):
    """Discriminative fine-tuning: a learning rate per layer (ULMFiT, Howard and Ruder 2018, section 3.2).

    rate_l = rate * decay ** (L + 1 - l) for layer l of L. Everything above the layers (l = L + 1), including the head,
    learns at the recipe's rate, and the embeddings (l = 0) learn slowest. The paper's decay is 1 / 2.6. This strategy
    selects no parameters itself: combine it with one that does.
    """

    kind: Literal["layerwise_lr"]
    decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Rate of a layer relative to the layer above it; empty: the same rate for all parameters not listed in `rates`."""
    rates: tuple[Rate, ...] = ()
    """Rates by parameter name, which override `decay`; the first matching pattern applies."""

    @model_validator(mode="after")
    def _check_effect(self) -> Self:
        if self.decay is None and not self.rates:
            raise ValueError("has no effect without decay or rates. Set decay, such as 0.9")
        return self

    def lr_scale(self, info: ParameterInfo) -> float:
        """Return the parameter's own rate if `rates` has one, else its layer's."""
        for rate in self.rates:
            if fnmatch.fnmatchcase(info.plain, rate.pattern):
                return rate.scale
        return 1.0 if self.decay is None else self.decay ** (info.layers + 1 - info.depth)
