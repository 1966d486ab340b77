"""Where to compute, and in which number format."""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.util.cpu import usable

if TYPE_CHECKING:
    from accelerate import Accelerator

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # as in malloc.h
PATIENCE = timedelta(days=1)
"""How long a rank waits for the others: rank 0 may validate for long, and that one died the launcher sees at once."""


def accelerator(execution: Execution) -> "Accelerator":
    """Accelerate's device and precision for an execution; raises RecipeError where the machine has not got them."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    _keep_freed_memory()
    _heed_quota()
    device, precision = chosen(execution)
    gpu = device == "cuda"
    if gpu and (gpus := torch.cuda.device_count()) < execution.processes:
        problem = f"needs as many GPUs, and torch can use {gpus}"
        raise RecipeError("execution.processes", execution.processes, problem, f"Choose at most {gpus}, or device=cpu")
    AcceleratorState._reset_state(reset_partial_state=True)  # a process may run several recipes, each its own way
    waiting = InitProcessGroupKwargs(timeout=PATIENCE)
    mixed = {"fp32": "no"}.get(precision, precision)
    return Accelerator(mixed_precision=mixed, cpu=not gpu, kwargs_handlers=[waiting])


def reader(device: Literal["auto", "cpu", "cuda"], trained_in: Precision) -> "Accelerator":
    """To answer with a model in `precision_to_answer`."""
    return accelerator(Execution(device=device, precision=precision_to_answer(device, trained_in)))


def precision_to_answer(device: Literal["auto", "cpu", "cuda"], trained_in: Precision) -> Precision:
    """That of the training; what was trained in fp16 answers in fp32 where there is no GPU."""
    refused = trained_in == "fp16" and chosen(Execution(device=device))[0] == "cpu"
    return "fp32" if refused else trained_in


def chosen(execution: Execution) -> tuple[Device, Precision]:
    """The device and precision that an execution gets; asks torch only where a GPU could be there.

    Raises RecipeError where the machine has not got what the recipe asks for.
    """
    if execution.device == "cpu" and execution.precision in ("fp32", "bf16"):
        return "cpu", execution.precision
    if execution.device != "cuda" and execution.precision != "fp16" and (found := _cpu_alone(execution.device)):
        return "cpu", found if execution.precision == "auto" else execution.precision
    import torch

    gpu = torch.cuda.is_available() and execution.device != "cpu"
    if execution.device == "cuda" and not gpu:
        raise RecipeError("execution.device", "cuda", "there is no GPU that torch can use", "Choose cpu or auto")
    if execution.precision == "fp16" and not gpu:
        raise RecipeError("execution.precision", "fp16", "needs a GPU", "Choose bf16, fp32 or auto")
    if execution.precision != "auto":
        return ("cuda" if gpu else "cpu"), execution.precision
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else torch.cpu._is_avx512_bf16_supported()
    return ("cuda" if gpu else "cpu"), "bf16" if bf16 else "fp32"


@cache
def _cpu_alone(device: Literal["auto", "cpu"]) -> Literal["fp32", "bf16"] | None:
    """What torch chooses on a Linux machine whose CPU computes, without waiting a second for torch; None: ask it.

    A plan and a run that reuses its model need nothing else of torch.
    """
    drivers = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
    if device == "auto" and (any(driver.exists() for driver in drivers) or _loads("libcuda.so.1")):
        return None
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    return "bf16" if re.search(r"^flags\s*:.*\bavx512_bf16\b", facts, re.MULTILINE) else "fp32"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def precision_of(accelerator: "Accelerator") -> Precision:
    """What a recipe calls the precision that an accelerator computes in."""
    return {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}[accelerator.mixed_precision]  # type: ignore[return-value]


@contextmanager
def giving_back() -> Iterator[None]:
    """Hand the memory that a training has kept for its next step back to the system, when it is over."""
    try:
        yield
    finally:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


def _heed_quota() -> None:
    """Take no more threads than a container's quota has cores for; OpenMP does not see it. A user's stays."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and usable() < torch.get_num_threads():
        torch.set_num_threads(usable())


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed; other C libraries are left as they are.

    It hands large blocks, such as the gradient of a table of embeddings, back at once, and the kernel then clears every
    page of them anew in every step.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)
