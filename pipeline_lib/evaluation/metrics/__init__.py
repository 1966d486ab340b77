"""Metrics, one module per kind of answer."""
