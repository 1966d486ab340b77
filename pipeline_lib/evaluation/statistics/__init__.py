"""How sure a score is: resampling, intervals, differences between models, and what a test set can detect."""
