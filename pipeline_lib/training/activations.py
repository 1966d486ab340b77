"""Gradient checkpointing: keep the inputs of blocks for the backward pass and compute the rest again."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipeline_lib.training.step import Stepper

SHARE = 0.5
"""Share of a GPU's free memory that activations may take before `auto` turns checkpointing on."""


def checkpoint_activations(stepper: "Stepper") -> bool:
    """Turn on gradient checkpointing as the recipe asks for; returns whether it is on.

    Raises:
        RecipeError: The recipe requires it, and the family does not support it.
    """
    setting = stepper.recipe.training.gradient_checkpointing
    if setting == "auto":
        setting = _is_needed(stepper)
    if setting and not checkpoint_blocks(stepper.model):
        family = stepper.model.config.model_type
        problem = f"is not supported by the family {family}"
        raise RecipeError("training.gradient_checkpointing", True, problem, "Set it to false, or choose another base")
    return setting


def checkpoint_blocks(model: "PreTrainedModel") -> int:
    """Checkpoint each block (Chen et al. 2016, section 4.1); returns how many the model has.

    transformers' own switch also makes the embeddings' output require a gradient, which frozen lower blocks would then
    compute for nothing; blocks checkpointed without reentrant autograd do not need it.
    """
    from torch.utils.checkpoint import checkpoint

    blocks = _blocks(model)
    for block in blocks:
        block.gradient_checkpointing = True
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    return len(blocks)


def _blocks(model: "PreTrainedModel") -> list[Any]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _is_needed(stepper: "Stepper") -> bool:
    """Return whether the activations of the largest pass may take more than SHARE of the GPU's free memory.

    On a CPU memory is seldom what limits a training, and time is: there it is never turned on.
    """
    if stepper.accelerator.device.type != "cuda" or not _blocks(stepper.model):
        return False
    if stepper.is_sharded:  # as only models are that do not fit otherwise
        return True
    return activation_bytes(stepper) > SHARE * _free_memory()


def activation_bytes(stepper: "Stepper") -> int:
    """Measure the bytes that the largest pass of a training keeps for its backward pass.

    The longest row runs once, with its random numbers set aside; a pass has as many such rows as `batch_tokens` allows.
    """
    import torch

    tokens = stepper.train.group_tokens
    longest = np.array([tokens.argmax()])
    rows = max(1, stepper.recipe.training.batch_tokens // int(tokens.max()))
    devices = [stepper.accelerator.device] if stepper.accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices), record_kept_bytes(stepper.model) as bytes_of:
        stepper.model.train()
        outputs = stepper.outputs_of(longest)
        del outputs
    return rows * sum(bytes_of.values())


@contextmanager
def record_kept_bytes(model: "PreTrainedModel") -> "Iterator[dict[int, int]]":
    """Yield a dictionary that gets the bytes of each storage that forward passes keep for their backward passes.

    The weights themselves are not counted.
    """
    import torch

    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    bytes_of: dict[int, int] = {}
    alive = []  # or another tensor would get the same address

    def count(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            bytes_of[storage._cdata] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield bytes_of


def _free_memory() -> int:
    import torch

    return torch.cuda.mem_get_info()[0]
