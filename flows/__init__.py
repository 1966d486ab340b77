"""Prefect flows, one per file: short sequences of tasks."""
