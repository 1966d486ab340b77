"""Metrics, one module for each kind of prediction."""
