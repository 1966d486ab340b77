"""Choose the device and the precision."""

import ctypes
import os
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training.cpu_precision import cpu_precision
from pipeline_lib.util.cpu import usable

if TYPE_CHECKING:
    from accelerate import Accelerator

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # as in malloc.h
GLIBC_DEFAULT = 128 * 1024
"""Size in bytes from which glibc returns freed blocks to the system, unless told otherwise."""
PATIENCE = timedelta(days=1)
"""How long a rank waits for the others: validation on rank 0 can take long, and the launcher notices crashes anyway."""


def accelerator(execution: Execution) -> "Accelerator":
    """Create an Accelerator for an execution; raises RecipeError if the machine lacks the device or precision."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    _keep_freed_memory()
    _limit_threads()
    device, precision = select_device(execution)
    gpu = device == "cuda"
    if execution.compile and not gpu:
        raise RecipeError("execution.compile", True, "needs a GPU", "Leave it out")
    if execution.attention == "flash_attention_2":
        _refuse_flash_attention(gpu, precision)
    if gpu and (gpus := torch.cuda.device_count()) < execution.processes:
        problem = f"needs as many GPUs, and torch can use {gpus}"
        raise RecipeError("execution.processes", execution.processes, problem, f"Choose at most {gpus}, or device=cpu")
    # A process may run several recipes with different settings. There is no public method; transformers' Trainer calls
    # this one too.
    AcceleratorState._reset_state(reset_partial_state=True)
    waiting = InitProcessGroupKwargs(timeout=PATIENCE)
    mixed = {"fp32": "no"}.get(precision, precision)
    return Accelerator(mixed_precision=mixed, cpu=not gpu, kwargs_handlers=[waiting])


def _refuse_flash_attention(gpu: bool, precision: Precision) -> None:
    """Raise RecipeError if this machine or precision has no FlashAttention."""
    from transformers.utils import is_flash_attn_2_available

    if not gpu:
        problem = "needs a GPU"
    elif precision == "fp32":
        problem = "needs bf16 or fp16, and this GPU computes in fp32"
    elif not is_flash_attn_2_available():
        problem = "needs the package flash-attn, which is not installed"
    else:
        return
    raise RecipeError("execution.attention", "flash_attention_2", problem, "Choose auto or sdpa")


def reader(device: Literal["auto", "cpu", "cuda"], trained_in: Precision) -> "Accelerator":
    """Create an Accelerator for inference, with the precision from `precision_to_answer`."""
    return accelerator(Execution(device=device, precision=precision_to_answer(device, trained_in)))


def precision_to_answer(device: Literal["auto", "cpu", "cuda"], trained_in: Precision) -> Precision:
    """Return the precision for inference: that of the training, but fp32 for an fp16 model without a GPU."""
    unsupported = trained_in == "fp16" and select_device(Execution(device=device))[0] == "cpu"
    return "fp32" if unsupported else trained_in


def select_device(execution: Execution) -> tuple[Device, Precision]:
    """Return the device and precision for an execution; imports torch only if there may be a GPU, or to measure.

    Raises RecipeError if the machine does not have what the recipe requests.
    """
    if execution.device == "cpu" and execution.precision in ("fp32", "bf16"):
        return "cpu", execution.precision
    may_be_cpu = execution.device != "cuda" and execution.precision != "fp16"
    if may_be_cpu and (execution.device == "cpu" or _has_no_gpu()):
        return "cpu", cpu_precision() if execution.precision == "auto" else execution.precision
    import torch

    gpu = torch.cuda.is_available() and execution.device != "cpu"
    if execution.device == "cuda" and not gpu:
        raise RecipeError("execution.device", "cuda", "there is no GPU that torch can use", "Choose cpu or auto")
    if execution.precision == "fp16" and not gpu:
        raise RecipeError("execution.precision", "fp16", "needs a GPU", "Choose bf16, fp32 or auto")
    if execution.precision != "auto":
        return ("cuda" if gpu else "cpu"), execution.precision
    if not gpu:
        return "cpu", cpu_precision()
    return "cuda", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


@cache
def _has_no_gpu() -> bool:
    """Return whether this is a Linux machine without any GPU driver; if not, torch must be asked.

    Importing torch takes a second, and a plan, or a run that reuses its model, needs nothing else from it.
    """
    drivers = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
    return sys.platform == "linux" and not (any(driver.exists() for driver in drivers) or _loads("libcuda.so.1"))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def precision_of(accelerator: "Accelerator") -> Precision:
    """Return the recipe's name for an accelerator's precision."""
    return {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}[accelerator.mixed_precision]  # type: ignore[return-value]


def _limit_threads() -> None:
    """Limit torch's threads to a container's CPU quota, which OpenMP ignores; OMP_NUM_THREADS has priority."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and usable() < torch.get_num_threads():
        torch.set_num_threads(usable())


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory; no effect with other C libraries.

    By default it returns large blocks, such as the gradient of the embeddings, to the system immediately, and the
    kernel then has to clear all their pages in every step. `util/freed_memory.py` returns them after the training.
    """
    _set_thresholds(1 << 30)


def give_back_freed_memory() -> None:
    """Make glibc return large freed blocks immediately again.

    A sharded training gathers and frees weights continually; if glibc kept them, they would take the memory of
    all weights.
    """
    _set_thresholds(GLIBC_DEFAULT)


def _set_thresholds(size: int) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, size)
        libc.mallopt(M_TRIM_THRESHOLD, size)
