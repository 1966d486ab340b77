"""Return the memory of a model that is no longer needed to the operating system."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def return_freed_memory() -> Iterator[None]:
    """Free what was made inside and return it to the system, which glibc would keep and later steps would add to.

    A model with replaced forward methods refers to itself, so that only the garbage collector frees it.
    """
    try:
        yield
    finally:
        gc.collect()
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
