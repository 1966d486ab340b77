"""Train every parameter."""

from typing import Literal

from pipeline_lib.strategies.base import ParameterInfo, StrategySection


class Full(StrategySection):
    """All parameters are trained, as in BERT (Devlin et al. 2019, section 3.2).

    With `start_epoch` 1 the new head is trained first, then everything: LP-FT, linear probing then fine-tuning
    (Kumar et al. 2022), which keeps a random head's first gradients from spoiling what the base knows.
    """

    kind: Literal["full"]

    def head_lr_scale(self) -> float:
        """The base moves as fast as the head."""
        return 1.0

    def is_trainable(self, place: ParameterInfo) -> bool:
        """Every parameter."""
        return True
