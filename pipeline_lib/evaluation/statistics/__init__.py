"""Uncertainty of scores: resampling, intervals, differences between models, and the power of a test set."""
