"""Training: the one loop, its batches, its parameter groups, its checkpoints."""

import os

# oneDNN keeps its last 1,024 kernels, of which rows of fifty lengths need some 900, 300 MiB; to make those anew that
# 256 do not hold takes 2 % of a small model's step. It reads this when it computes for the first time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
