"""Train every parameter."""

from typing import ClassVar, Literal

from pipeline_lib.strategies.base import TRAINS_MATRICES, ParameterInfo, StrategySection


class Full(StrategySection):
    """Full fine-tuning: all parameters are trained, as in BERT (Devlin et al. 2019, section 3.2).

    With `start_epoch` 1 only the new head is trained in the first epoch: LP-FT, linear probing then fine-tuning (Kumar
    et al. 2022), which prevents the gradients of a randomly initialised head from distorting the base's features.
    """

    trains_base: ClassVar = True

    kind: Literal["full"]

    def head_lr_scale(self) -> float:
        """Train the head at the same rate as the base."""
        return 1.0

    def why_not_quantized(self) -> str:
        """Return that it trains the matrices themselves."""
        return TRAINS_MATRICES

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Select every parameter."""
        return True
