"""Training: the loop, batches, parameter groups and checkpoints."""

import os

# By default oneDNN caches its last 1,024 kernels, which take 300 MiB. As batch widths are rounded (`batches.MULTIPLE`),
# 384 are enough for most of those in use. oneDNN reads the variable before its first computation.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "384")
