"""Checks before training: of the rows, of the labels, of the model that is about to be trained."""
