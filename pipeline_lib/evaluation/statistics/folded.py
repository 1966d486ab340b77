"""Intervals for sums of absolute values, such as the calibration error, which noise alone lifts above 0.

Resamples exceed the score by about as much as the score exceeds the truth, and near 0 no fixed correction is right.
The interval therefore contains the true sizes under which the score would not be surprising: test inversion by
resampling along a one-parameter family, DiCiccio & Romano (1990), "Nonparametric Confidence Limits by Resampling
Methods and Least Favorable Families"; Carpenter (1999), "Test Inversion Bootstrap Confidence Intervals".
"""

from math import nan

import numpy as np

from pipeline_lib.evaluation.predictions import RowValues
from pipeline_lib.evaluation.statistics.resampling import QUANTILE, Resampler, expansion, resample

SIZES = np.concatenate([np.linspace(0, 1, 41), np.linspace(1, 3, 41)[1:]])
"""Sizes to try, as multiples of the scale of the parts."""


def folded_interval(rows: RowValues, name: str, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """The bounds of the interval of sum |parts| / decisions, where `name` is the total with the parts [k].

    The interval is the union over two families, and so rather too wide than too narrow: t * parts, which mistakes
    noise for size, and t * (parts shrunk by their noise), which mistakes size for noise. The noise is that of the
    resamples.
    """
    random = np.random.default_rng(seed)
    parts = np.asarray(rows.total(name), float) / rows.total("decisions")
    drawn, resampler = [], Resampler.from_rows(rows)
    for weights in resampler.draw(random, resamples):
        resamples_of_rows = resample(rows, weights.by_class, random)
        drawn.append(resamples_of_rows.total(name) / resamples_of_rows.total("decisions")[:, None])
    noise = np.concatenate(drawn)
    noise = (noise - noise.mean(axis=0)) * expansion(level, resampler.groups)
    return _invert(parts, noise, level)


def _invert(parts: np.ndarray, noise: np.ndarray, level: float) -> tuple[float, float]:
    """The smallest and the largest plausible size over both families: the parts as they are, and shrunk."""
    score = np.abs(parts).sum()
    scale = max(score, noise.std(axis=0).sum())
    if not np.isfinite(scale):
        return nan, nan
    families = (parts, _shrunk(parts, noise))
    sizes = np.concatenate([_sizes_inside(score, family, noise, SIZES * scale, level) for family in families])
    return (float(sizes.min()), float(sizes.max())) if len(sizes) else (0.0, 0.0)


def _sizes_inside(
    score: float, direction: np.ndarray, noise: np.ndarray, sizes: np.ndarray, level: float
) -> np.ndarray:
    """Return the `sizes` for which the score is between the outer percentiles of the resampled sums."""
    length = np.abs(direction).sum()
    direction = direction / length if length else np.full(len(direction), 1 / len(direction))
    sums = np.stack([np.abs(size * direction + noise).sum(axis=1) for size in sizes])
    low, high = np.quantile(sums, [(1 - level) / 2, (1 + level) / 2], axis=1, method=QUANTILE)
    inside = (low <= score) & (score <= high)
    # include the neighbours as well, because nothing between two grid points was tried
    return sizes[np.convolve(inside, [1, 1, 1], "same") > 0]


def _shrunk(parts: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Shrink each part by its noise: the positive-part estimator of James & Stein (1961), part by part."""
    variance = noise.var(axis=0)
    factors = np.maximum(0, 1 - np.divide(variance, parts**2, out=np.ones(len(parts)), where=parts != 0))
    return parts * factors
