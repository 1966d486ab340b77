"""Evaluation of a trained model: predictions, metrics, intervals, baselines, figures and the report."""
