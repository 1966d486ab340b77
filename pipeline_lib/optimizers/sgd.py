"""Stochastic gradient descent with momentum."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline_lib.models.shards import is_sharded
from pipeline_lib.optimizers.base import Group, OptimizerSection
from pipeline_lib.util.section import Share

if TYPE_CHECKING:
    from torch.optim import Optimizer


class SGD(OptimizerSection):
    """Subtracts the learning rate times the gradients, averaged over steps (Sutskever et al. 2013, section 2).

    Usual learning rates are 1e-3 to 1e-1. Weight decay is added to the gradients, so that momentum averages it too.
    """

    state_floats: ClassVar[float] = 1.0
    kind: Literal["sgd"]
    momentum: Share = 0.9
    """Share of the last step's change that is added to the next one."""
    nesterov: bool = False
    """Whether gradients count as if taken after the momentum was applied."""

    def build(self, groups: Sequence[Group]) -> "Optimizer":
        """Return torch's SGD, fused where the weights are not sharded, which its fused kernel cannot take."""
        from torch.optim import SGD

        fused = not any(is_sharded(weight) for group in groups for weight in group.parameters)
        options = [group.options() for group in groups]
        return SGD(options, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0, fused=fused)
