"""Audit a model: its provenance, the consistency of its records, and its reproducibility."""
