"""Training: the one loop, its batches, its parameter groups, its checkpoints."""
