"""Recognise that memory ran out, so that the same rows can be computed in smaller parts."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""torch raises a plain RuntimeError with this word when a CPU's memory runs out."""
Value = TypeVar("Value")


class PassTooLarge(RuntimeError):
    """Memory ran out in a pass of a sharded training.

    The other ranks wait for this one's shards, so the pass cannot be repeated in parts: all ranks start again from the
    last checkpoint, with passes of at most `batch_tokens`.
    """

    def __init__(self, batch_tokens: int):
        super().__init__(f"out of memory; at most {batch_tokens:,} tokens per pass from now on")
        self.batch_tokens = batch_tokens


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device's memory ran out."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or CPU_ALLOCATOR in str(error)


def release_memory() -> None:
    """Return cached memory of the GPU to the device, so that parts of another size find room."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def read_in_halves(read: Callable[[np.ndarray], Sequence[Value]], rows: np.ndarray) -> Iterable[Value]:
    """Return `read(rows)`; if memory runs out, that of the first and the second half of the rows, and so on.

    Raises:
        Exception: The error of `read`, if it is another one or memory runs out with a single row.
    """
    try:
        return read(rows)
    except Exception as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    release_memory()  # after the except block, which keeps the failed attempt's tensors
    half = len(rows) // 2
    return [*read_in_halves(read, rows[:half]), *read_in_halves(read, rows[half:])]
