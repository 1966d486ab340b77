"""Ask for less than full certainty."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection


class LabelSmoothing(RegularizerSection):
    """The target of K classes becomes q'(k) = (1 - e) q(k) + e / K (Szegedy et al. 2016, section 7).

    The model is then not rewarded for driving the right class's logit ever further from the others. Losses of
    validation and test are taken without it.
    """

    kind: Literal["label_smoothing"]
    value: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share e of the target that is spread evenly over all classes."""

    def smoothing(self) -> float:
        """The share."""
        return self.value
