"""What a step that loads a model leaves in memory. `pytest tests/util/test_freed_memory.py`."""

import ctypes
import os
from pathlib import Path

import pytest
import torch

from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training.device import accelerator
from pipeline_lib.util.freed_memory import return_freed_memory

BLOCK = 200 * 2**20


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Model:
    """Refers to itself, as a model with replaced forward methods does."""

    def __init__(self):
        self.weight, self.itself = torch.ones(BLOCK // 4), self


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_memory_is_kept_from_step_to_step_and_returned_at_the_end():
    accelerator(Execution(device="cpu"))
    with return_freed_memory():  # what other tests have kept
        pass
    before = resident()
    with return_freed_memory():
        model = Model()
        assert resident() > before + BLOCK * 0.9
        del model
        assert resident() > before + BLOCK * 0.9
    assert resident() < before + BLOCK * 0.1
