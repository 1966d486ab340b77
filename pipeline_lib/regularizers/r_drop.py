"""Make two passes with other dropout agree."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor


class RDrop(RegularizerSection):
    """Two passes with predictions p and q: (NLL_p + NLL_q) / 2 + alpha/4 (KL(p|q) + KL(q|p)) (Liang et al. 2021).

    That is one half of the loss in section 2.1, NLL_p + NLL_q + alpha/2 (KL(p|q) + KL(q|p)), so that losses and
    gradients keep the size that they have with one pass; alpha weighs the same. A step takes twice the time.
    """

    acts_everywhere: ClassVar[bool] = True

    kind: Literal["r_drop"]
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the disagreement; the paper takes 0.1 to 1 for classification and 5 for translation."""

    @property
    def needs_second_forward(self) -> bool:
        """Always."""
        return True

    def consistency_loss(self, first: "Tensor", second: "Tensor") -> "Tensor":
        """alpha/4 (KL(p|q) + KL(q|p)), summed over units; both passes learn from it."""
        one, other = first.log_softmax(-1), second.log_softmax(-1)
        # KL(p|q) + KL(q|p) = sum (p - q) (log p - log q)
        return self.alpha / 4 * ((one.exp() - other.exp()) * (one - other)).sum()
