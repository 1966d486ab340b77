"""Standardise regression targets for training, and convert outputs back to the data's unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of the training targets, in the unit of the data.

    A head starts near 0 and the learning rates suit values of order 1, so training would not reach targets around
    1000.
    """

    mean: float
    deviation: float

    @classmethod
    def from_targets(cls, targets: "Sequence[float] | np.ndarray") -> "TargetScale":
        """Compute the scale of training targets; constant targets get the deviation 1, to avoid dividing by 0."""
        numbers = np.asarray(targets, np.float64)
        # Divide by the largest magnitude first: the squares of very large numbers would overflow.
        largest = float(np.abs(numbers).max(initial=0.0)) or 1.0
        scaled = numbers / largest
        constant = len(numbers) == 0 or bool(np.all(numbers == numbers[0]))
        mean = float(np.mean(scaled)) * largest if len(numbers) else 0.0
        deviation = 0.0 if constant else float(np.std(scaled)) * largest
        return cls(mean, deviation or 1.0)

    def standardise(self, targets: np.ndarray) -> np.ndarray:
        """Return the targets in deviations from the mean, [n] float32."""
        return ((np.asarray(targets, np.float64) - self.mean) / self.deviation).astype(np.float32)

    def restore(self, outputs: np.ndarray) -> np.ndarray:
        """Convert model outputs back to the unit of the data, as float64."""
        return np.asarray(outputs, np.float64) * self.deviation + self.mean
