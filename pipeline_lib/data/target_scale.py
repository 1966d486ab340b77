"""Standardised targets of a regression: the model learns numbers around 0, and answers in the data's unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TargetScale:
    """The mean and the standard deviation of the training targets, in the unit of the data.

    A head starts near 0 and the learning rates suit numbers of size 1: targets around 1000 would not be reached.
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, targets: "Sequence[float] | np.ndarray") -> "TargetScale":
        """The scale of training targets; constant ones have the deviation 1, so that nothing is divided by 0."""
        numbers = np.asarray(targets, np.float64)
        largest = float(np.abs(numbers).max(initial=0.0)) or 1.0  # squares of very large numbers would overflow
        shares = numbers / largest
        constant = len(numbers) == 0 or bool(np.all(numbers == numbers[0]))
        mean = float(np.mean(shares)) * largest if len(numbers) else 0.0
        deviation = 0.0 if constant else float(np.std(shares)) * largest
        return cls(mean, deviation or 1.0)

    def standardised(self, targets: np.ndarray) -> np.ndarray:
        """[n] float32: how many deviations each target lies above the mean."""
        return ((np.asarray(targets, np.float64) - self.mean) / self.deviation).astype(np.float32)

    def restored(self, outputs: np.ndarray) -> np.ndarray:
        """What a model put out, float64, in the unit of the data."""
        return np.asarray(outputs, np.float64) * self.deviation + self.mean
