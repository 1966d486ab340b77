"""Models: find a base, build the model to train, write and read what was trained."""
