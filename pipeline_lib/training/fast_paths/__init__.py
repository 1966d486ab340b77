"""Patched forward methods of torch and transformers modules: the same results in less time."""
