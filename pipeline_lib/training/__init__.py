"""Training: the one loop, its batches, its parameter groups, its checkpoints."""

import os

# oneDNN keeps its last 1,024 kernels, 300 MiB of them; widths are rounded so that 384 hold most of those in use
# (`batches.MULTIPLE`). It reads this when it computes for the first time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "384")
