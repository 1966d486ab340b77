"""Evaluation: predictions, metrics, intervals, baselines, figures, the report."""
