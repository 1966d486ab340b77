"""Logging runs and models to MLflow; the only package that imports it.

Everything logged can be rebuilt from the store's artifacts. Live curves are best effort, and `publish` adds whatever is
missing.
"""
