"""Checks before a run: servers, drivers, packages, the store and disk space."""
