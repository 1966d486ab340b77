"""Pull the weights toward where they started."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor, nn


class L2SP(RegularizerSection):
    """Adds value/2 |w - w0|^2 + head_value/2 |h|^2 to the loss (L2-SP: Li, Grandvalet and Davoine 2018, section 3).

    w are all weights that are trained, biases and norms included, and w0 their values before training; h is the new
    head, which has learned nothing yet that could be kept. What a strategy injects belongs to w: LoRA's and adapters'
    first values leave the model as it was, so that they too are pulled toward the pre-trained model.
    """

    needs_start: ClassVar[bool] = True

    kind: Literal["l2_sp"]
    value: Annotated[float, Field(ge=0)] = 0.01
    """Strength of the pull to the pre-trained weights; alpha in the paper."""
    head_value: Annotated[float, Field(ge=0)] = 0.01
    """Strength of the pull of the new head to zero; beta in the paper."""

    def penalty(
        self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]", head: set[str]
    ) -> "Tensor | None":
        """Both pulls; None where nothing is trained yet."""
        import torch

        terms = [
            self.head_value / 2 * weight.square().sum()
            if name in head
            else self.value / 2 * (weight - start[name]).square().sum()
            for name, weight in weights.items()
            if weight.requires_grad  # what is still frozen stands where it started
        ]
        return torch.stack(terms).sum() if terms else None
