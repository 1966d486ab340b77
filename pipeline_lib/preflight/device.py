"""Check that this machine has the device that a recipe asks for."""

from rich.filesize import decimal

from pipeline_lib.preflight.result import CheckResult, passed_check
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.util.cpu import usable

NAME = "device"


def check_device(execution: Execution) -> CheckResult:
    """Report the device and number format that training will use; imports torch.

    Raises:
        RecipeError: The machine has no GPU or too few, or does not support the number format.
    """
    import torch

    from pipeline_lib.training.device import accelerator, select_device

    device, precision = select_device(execution)
    if execution.processes > 1 or execution.attention == "flash_attention_2" or execution.compile:
        accelerator(execution)  # raises if there are fewer GPUs than processes, no FlashAttention, or no GPU
    if device == "cpu":
        return passed_check(NAME, f"CPU, {usable()} cores, {precision}.")
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = ", ".join(f"{gpu.name} with {decimal(gpu.total_memory)}" for gpu in gpus)
    return passed_check(NAME, f"{names}; {precision}.")
