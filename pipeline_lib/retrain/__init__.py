"""Retraining: is the data fit, is there something new, and may the challenger take the champion's place."""
