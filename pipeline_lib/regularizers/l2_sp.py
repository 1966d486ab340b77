"""Penalize the distance of the weights from their initial values."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.models.shards import local
from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor, nn


class L2SP(RegularizerSection):
    """L2-SP: adds value/2 |w - w0|^2 + head_value/2 |h|^2 to the loss (Li, Grandvalet and Davoine 2018, section 3).

    w are all trained weights, including biases and norms, and w0 their values before training; h are the weights of
    the new head, which have no pre-trained values to stay close to. Weights injected by a strategy belong to w:
    LoRA and adapters initially leave the model's outputs unchanged, so they too are pulled toward the pre-trained
    model.
    """

    needs_start: ClassVar[bool] = True

    kind: Literal["l2_sp"]
    value: Annotated[float, Field(ge=0)] = 0.01
    """Strength of the pull toward the pre-trained weights; alpha in the paper."""
    head_value: Annotated[float, Field(ge=0)] = 0.01
    """Strength of the pull of the new head toward zero; beta in the paper."""

    def penalty(
        self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]", head: set[str]
    ) -> "Tensor | None":
        """Return the sum of both penalties, of this process's parts; None if no weight is trained yet."""
        import torch

        terms = []
        for name, weight in weights.items():
            if not weight.requires_grad:  # still frozen, so at its initial value
                continue
            if name in head:
                terms.append(self.head_value / 2 * local(weight).square().sum())
            else:
                terms.append(self.value / 2 * (local(weight) - local(start[name])).square().sum())
        return torch.stack(terms).sum() if terms else None
