"""Base class of optimizers, and the groups of parameters that they are built from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class Group(NamedTuple):
    """Parameters that share a learning rate and a weight decay."""

    parameters: "list[nn.Parameter]"
    learning_rate: float
    """Learning rate at the schedule's peak."""
    weight_decay: float
    hidden: bool = False
    """Whether they are matrices inside the model: neither embeddings nor part of an output layer."""

    def options(self) -> dict[str, object]:
        """Return the group as torch's optimizers take it; the training sets `lr` from `peak` before each step."""
        return {
            "params": self.parameters,
            "lr": self.learning_rate,
            "peak": self.learning_rate,
            "weight_decay": self.weight_decay,
        }


class OptimizerSection(Section):
    """Changes the trained weights in each step, following their gradients."""

    state_floats: ClassVar[float]
    """Numbers of 4 bytes that it keeps for each trained weight; its checkpoints are larger by that."""
    takes_shards: ClassVar[bool] = True
    """Whether it supports sharded weights."""
    extra: ClassVar[str | None] = None
    """Optional dependencies that it needs, by the name of the extra."""

    def build(self, groups: Sequence[Group]) -> "Optimizer":
        """Return torch's optimizer for these parameters."""
        raise NotImplementedError
