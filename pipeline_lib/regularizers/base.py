"""The hooks of a regularizer, all optional."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel


class RegularizerSection(Section):
    """What holds a model back from over-fitting."""

    acts_everywhere: ClassVar[bool] = False
    """Whether it acts in training in frozen layers too; else those below the lowest trained one are without dropout."""
    needs_start: ClassVar[bool] = False
    """Whether the hooks ask for the weights as they were before training."""

    def weight_decay(self) -> float:
        """The decay of AdamW on matrices; biases and norms have none."""
        return 0.0

    def smoothing(self) -> float:
        """The share of the target that is spread over all classes."""
        return 0.0

    def configure(self, config: "PretrainedConfig") -> dict[str, Any]:
        """Values of the model's configuration that are set for training."""
        return {}

    def prepare(self, model: "PreTrainedModel") -> None:
        """Hook into the model that is trained; what is hooked must act in training mode alone."""

    @contextmanager
    def perturb_weights(self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]") -> Iterator[None]:
        """Around all forward and backward passes of a step: trained weights by name, and those before training."""
        yield

    @property
    def needs_second_forward(self) -> bool:
        """Whether `disagreement` is to be asked."""
        return False

    def consistency_loss(self, first: "Tensor", second: "Tensor") -> "Tensor":
        """What two passes over the same inputs with other dropout add to the loss, summed over units.

        Logits [units, classes] each.
        """
        raise NotImplementedError

    def penalty(
        self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]", head: set[str]
    ) -> "Tensor | None":
        """A term of the loss of each step that depends on the weights alone."""
        return None
