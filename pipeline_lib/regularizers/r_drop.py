"""Penalize disagreement between two passes with different dropout."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor


class RDrop(RegularizerSection):
    """R-Drop: two passes with predictions p and q give (NLL_p + NLL_q) / 2 + alpha/4 (KL(p|q) + KL(q|p)) (Liang et al.
    2021).

    This is half the loss of section 2.1, NLL_p + NLL_q + alpha/2 (KL(p|q) + KL(q|p)), so that losses and gradients
    have the same scale as with one pass; the relative weight of alpha is the same. A step takes twice as long.
    """

    acts_everywhere: ClassVar[bool] = True

    kind: Literal["r_drop"]
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the disagreement; the paper uses 0.1 to 1 for classification and 5 for translation."""

    @property
    def needs_second_forward(self) -> bool:
        """Always True."""
        return True

    def consistency_loss(self, first: "Tensor", second: "Tensor") -> "Tensor":
        """Return alpha/4 (KL(p|q) + KL(q|p)), summed over units; gradients flow through both passes."""
        log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
        # KL(p|q) + KL(q|p) = sum (p - q) (log p - log q)
        return self.alpha / 4 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()
