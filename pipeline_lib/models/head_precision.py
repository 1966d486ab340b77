"""Compute a model's head in fp32, regardless of the precision of its backbone.

bf16 has 8 significant bits: the scores of 1,379 sentence pairs took only 75 distinct values, and labels could tie by
rounding. The head is a small part of the computation, so fp32 costs next to nothing there.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline_lib.models.head_names import backbone_modules

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def compute_head_in_fp32(model: "PreTrainedModel") -> None:
    """Patch the modules above the backbone, and its pooler, to compute in fp32 outside of autocast."""
    for module in head_modules(model):
        module.forward = partial(_run_in_fp32, module.forward)  # type: ignore[method-assign]


def head_modules(model: "PreTrainedModel") -> "list[nn.Module]":
    """Return the modules with parameters outside the backbone, and the backbone's pooler, which only the head uses."""
    backbone = backbone_modules(model)
    children = [module for name, module in model.named_children() if f"{name}." not in backbone]
    poolers = [
        module for name, module in model.named_modules() if name.endswith(".pooler") and name.startswith(backbone)
    ]
    return [module for module in (*poolers, *children) if any(True for _ in module.parameters())]


def _run_in_fp32(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the original forward with fp32 inputs and autocast disabled on their device."""
    import torch

    args = tuple(_to_fp32(value) for value in args)
    kwargs = {name: _to_fp32(value) for name, value in kwargs.items()}
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
    device = next((tensor.device.type for tensor in tensors), "cpu")
    with torch.autocast(device, enabled=False):
        return forward(*args, **kwargs)


def _to_fp32(value: Any) -> Any:
    import torch

    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if floating else value
