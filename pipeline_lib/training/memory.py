"""Freed memory that is kept for the next step."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
USUAL, MOST = {TRIM_THRESHOLD: 2**27, MMAP_THRESHOLD: 2**25}, {TRIM_THRESHOLD: 2**31 - 1, MMAP_THRESHOLD: 2**30}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Have glibc give nothing back to the kernel inside; afterwards all that is free.

    A table of embeddings has a gradient of many megabytes, made and freed in each step: every page of it would be
    mapped and zeroed anew, a tenth of a small model's step. Another C library goes on as it does.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    try:
        _set(libc, MOST)
        yield
    finally:
        _set(libc, USUAL)
        libc.malloc_trim(0)  # type: ignore[union-attr]


def _set(libc: ctypes.CDLL | None, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        libc.mallopt(parameter, value)  # type: ignore[union-attr]
