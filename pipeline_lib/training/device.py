"""Where to compute, and in which number format."""

from typing import TYPE_CHECKING, Literal

from pipeline_lib.recipe import Execution
from pipeline_lib.schema import RecipeError

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator(execution: Execution) -> "Accelerator":
    """Accelerate's device and precision for an execution; raises RecipeError where the machine has not got them."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    gpu = torch.cuda.is_available() and execution.device != "cpu"
    if execution.device == "cuda" and not gpu:
        raise RecipeError("execution.device", "cuda", "there is no GPU that torch can use", "Choose cpu or auto")
    if execution.precision == "fp16" and not gpu:
        raise RecipeError("execution.precision", "fp16", "needs a GPU", "Choose bf16, fp32 or auto")
    AcceleratorState._reset_state(reset_partial_state=True)  # a process may run several recipes, each its own way
    return Accelerator(mixed_precision=_precision(execution.precision, gpu), cpu=not gpu)


def precision_of(accelerator: "Accelerator") -> Literal["fp32", "bf16", "fp16"]:
    """What a recipe calls the precision that an accelerator computes in."""
    return {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}[accelerator.mixed_precision]  # type: ignore[return-value]


def _precision(asked: str, gpu: bool) -> str:
    import torch

    if asked != "auto":
        return {"fp32": "no"}.get(asked, asked)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if bf16 else "no"
