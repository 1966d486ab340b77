"""Export a trained model as a plain transformers folder with a model card."""
