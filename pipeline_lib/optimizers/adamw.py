"""AdamW."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat

from pipeline_lib.optimizers.base import Group, OptimizerSection
from pipeline_lib.util.section import Share

if TYPE_CHECKING:
    from torch.optim import Optimizer


class AdamW(OptimizerSection):
    """Divides the mean of the gradients by the root of the mean of their squares (Loshchilov and Hutter 2019).

    Usual learning rates are 1e-5 to 5e-5 for all weights and 1e-4 to 1e-3 for added ones.
    """

    state_floats: ClassVar[float] = 2.0
    kind: Literal["adamw"]
    beta1: Share = 0.9
    """Decay of the mean of the gradients, per step."""
    beta2: Share = 0.999
    """Decay of the mean of the squared gradients, per step."""
    epsilon: PositiveFloat = 1e-8
    """Added to the divisor."""

    def build(self, groups: Sequence[Group]) -> "Optimizer":
        """Return torch's fused AdamW."""
        from torch.optim import AdamW

        options = [group.options() for group in groups]
        return AdamW(options, betas=(self.beta1, self.beta2), eps=self.epsilon, fused=True)
