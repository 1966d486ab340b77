"""Sums over rows, from which every metric is computed."""

from typing import Any

import numpy as np


class Totals:
    """Named sums over rows, from which every metric is computed.

    For one set of rows a total is a number or [k]. For resamples it is [resamples] or [resamples, k], and a metric is
    [resamples]. Metrics therefore index from the last axis.
    """

    def total(self, name: str) -> np.ndarray:
        """The sum of `row_values(name)` over rows."""
        raise NotImplementedError

    def mean(self, name: str) -> Any:
        """The mean of `row_values(name)` over rows; nan without rows."""
        return ratio(self.total(name), self.total("rows"), np.nan)


def ratio(above: Any, below: Any, otherwise: float) -> Any:
    """above / below elementwise, or `otherwise` where below is 0."""
    above, below = np.asarray(above, float), np.asarray(below, float)
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.divide(above, below, out=np.full(shape, otherwise), where=below != 0)[()]
