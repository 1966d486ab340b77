"""AdamW with 8-bit averages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat

from pipeline_lib.optimizers.base import Group, OptimizerSection
from pipeline_lib.util.section import Share

if TYPE_CHECKING:
    from torch.optim import Optimizer


class AdamW8Bit(OptimizerSection):
    """AdamW that stores its two averages in 8 bits, in blocks of 256 with a scale each (Dettmers et al. 2022).

    That takes a quarter of AdamW's memory, at about the same scores. Weights of fewer than 4,096 numbers keep averages
    in fp32. Needs bitsandbytes: `pip install -c constraints.txt -e '.[quantization]'`.
    """

    state_floats: ClassVar[float] = 0.51
    takes_shards: ClassVar[bool] = False
    extra: ClassVar[str | None] = "quantization"
    kind: Literal["adamw_8bit"]
    beta1: Share = 0.9
    """Decay of the mean of the gradients, per step."""
    beta2: Share = 0.999
    """Decay of the mean of the squared gradients, per step."""
    epsilon: PositiveFloat = 1e-8
    """Added to the divisor."""

    def build(self, groups: Sequence[Group]) -> "Optimizer":
        """Return bitsandbytes' AdamW8bit."""
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit([group.options() for group in groups], betas=(self.beta1, self.beta2), eps=self.epsilon)
