"""Base class of regularizers, with optional hooks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel


class RegularizerSection(Section):
    """Reduces over-fitting during training."""

    acts_everywhere: ClassVar[bool] = False
    """Whether it also needs training mode in frozen layers; if not, those below the lowest trained layer run without
    dropout, and their outputs can be cached."""
    needs_start: ClassVar[bool] = False
    """Whether the hooks need the weights as they were before training."""

    def weight_decay(self) -> float:
        """Return AdamW's weight decay for matrices; biases and norms have none."""
        return 0.0

    def smoothing(self) -> float:
        """Return the share of the target that is spread over all classes."""
        return 0.0

    def configure(self, config: "PretrainedConfig") -> dict[str, Any]:
        """Return configuration values of the model to override during training."""
        return {}

    def prepare(self, model: "PreTrainedModel") -> None:
        """Register hooks on the model to train; they must act in training mode only."""

    @contextmanager
    def perturb_weights(self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]") -> Iterator[None]:
        """Modify the weights during the forward and backward passes of a step, and restore them afterwards.

        Args:
            weights: The trained parameters by name.
            start: Their values before training; empty unless `needs_start`.
        """
        yield

    @property
    def needs_second_forward(self) -> bool:
        """Whether a step needs a second forward pass, for `consistency_loss`."""
        return False

    def consistency_loss(self, first: "Tensor", second: "Tensor") -> "Tensor":
        """Return the loss term for two passes over the same inputs with different dropout, summed over units.

        Args:
            first: Logits of the first pass, [units, classes].
            second: Logits of the second pass, [units, classes].
        """
        raise NotImplementedError

    def penalty(
        self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]", head: set[str]
    ) -> "Tensor | None":
        """Return a loss term that depends on the weights only, or None.

        Args:
            weights: The trained parameters by name.
            start: Their values before training; empty unless `needs_start`.
            head: Names of the new head's parameters.
        """
        return None
