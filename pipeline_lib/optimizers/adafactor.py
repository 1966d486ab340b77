"""Adafactor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat

from pipeline_lib.optimizers.base import Group, OptimizerSection

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Adafactor(OptimizerSection):
    """Keeps the squared gradients of a matrix as the means of its rows and columns (Shazeer and Stern 2018).

    That takes almost no memory, and it has no momentum. A weight changes by the learning rate times the root mean
    square of its matrix, so that rates are higher than AdamW's: 1e-3 is the usual one for T5.
    """

    state_floats: ClassVar[float] = 0.05
    takes_shards: ClassVar[bool] = False
    kind: Literal["adafactor"]
    clip_threshold: PositiveFloat = 1.0
    """Root mean square to which larger updates of a matrix are scaled down (section 6)."""

    def build(self, groups: Sequence[Group]) -> "Optimizer":
        """Return torch's Adafactor."""
        from torch.optim import Adafactor

        return Adafactor([group.options() for group in groups], d=self.clip_threshold)
