"""Train the head and a chosen part of the base."""

import fnmatch
from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.strategies.base import Place, StrategySection


class Partial(StrategySection):
    """The head is trained, and of the base what any of the fields below names; with none, the head alone.

    The last n layers: Lee, Tang and Lin 2019, "What would Elsa do?". Bias terms only: BitFit (Ben Zaken, Goldberg and
    Ravfogel 2022, section 3), where of W x + b only b is learned.
    """

    kind: Literal["partial"]
    last_layers: Annotated[int, Field(ge=0)] = 0
    """How many of the uppermost layers are trained, with all that stands above them."""
    patterns: tuple[str, ...] = ()
    """Parameters trained by name, as shell patterns: `*attention*query*`."""
    biases: bool = False
    """Train all bias terms."""

    def trains(self, place: Place) -> bool:
        """The uppermost layers, the named parameters and the biases, each where asked for."""
        upper = self.last_layers > 0 and place.depth > place.layers - self.last_layers
        named = any(fnmatch.fnmatchcase(place.name, pattern) for pattern in self.patterns)
        return upper or named or (self.biases and place.name.endswith("bias"))
