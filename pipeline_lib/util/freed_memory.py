"""Return the memory of a model that is no longer needed to the operating system."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def return_freed_memory() -> Iterator[None]:
    """Free objects created inside and return their memory to the system; glibc would keep it.

    A model with replaced forward methods refers to itself, so only the garbage collector frees it.
    """
    try:
        yield
    finally:
        gc.collect()
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
