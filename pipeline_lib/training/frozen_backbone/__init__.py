"""The frozen lower layers of a model: run once, their outputs cached and reused."""
