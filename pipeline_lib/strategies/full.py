"""Train every parameter."""

from typing import Literal

from pipeline_lib.strategies.base import Place, StrategySection


class Full(StrategySection):
    """All parameters are trained, as in BERT (Devlin et al. 2019, section 3.2)."""

    kind: Literal["full"]

    def trains(self, place: Place) -> bool:
        """Every parameter."""
        return True
