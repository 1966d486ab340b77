"""Recipes: the schema, loading YAML, execution settings, the path policy and validation errors."""
