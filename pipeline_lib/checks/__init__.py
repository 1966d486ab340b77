"""Checks of rows, labels and model before training."""
