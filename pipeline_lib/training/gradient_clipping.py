"""Clip the gradients of a step to a maximum norm, over all shards of the model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_lib.models.shards import local, sum_over_shards

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
    from torch import nn


def clip_gradients(
    weights: "Sequence[nn.Parameter]", optimizer: "AcceleratedOptimizer", accelerator: "Accelerator", max_norm: float
) -> float:
    """Return the norm of all gradients and clip them to `max_norm`.

    Fused optimizers divide the gradients by `grad_scale` when they read them, which saves a pass over them.
    """
    import torch

    accelerator.unscale_gradients(optimizer)
    gradients = [local(weight.grad) for weight in weights if weight.grad is not None]
    # torch's norm uses one thread
    squares = torch.stack([gradient.flatten().dot(gradient.flatten()) for gradient in gradients]).sum()
    norm = sum_over_shards(squares, weights).sqrt()
    if getattr(optimizer.optimizer, "_step_supports_amp_scaling", False):  # as GradScaler asks and sets it
        optimizer.optimizer.grad_scale = (norm / max_norm).clamp(min=1)
    else:
        factor = (max_norm / (norm + 1e-6)).clamp(max=1)  # as torch's clip_grads_with_norm_, which takes no shards
        for gradient in gradients:
            gradient.mul_(factor)
    return float(norm)
