"""Patched forwards of other people's modules: the same results in less time."""
