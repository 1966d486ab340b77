"""Models: find a base, build the model to train, and save and load trained models."""
