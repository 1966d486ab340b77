"""Smooth the target distribution of a classification."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection


class LabelSmoothing(RegularizerSection):
    """Label smoothing: the target over K classes becomes q'(k) = (1 - e) q(k) + e / K (Szegedy et al. 2016, section 7).

    This removes the incentive to push the correct class's logit ever further from the others. Validation and test
    losses are computed without smoothing.
    """

    kind: Literal["label_smoothing"]
    value: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share e of the target that is spread evenly over all classes."""

    def smoothing(self) -> float:
        """Return `value`."""
        return self.value
