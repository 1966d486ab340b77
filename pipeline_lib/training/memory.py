"""Compute how much memory a training will need on its device, without reading or allocating any weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline_lib.data.examples import Examples
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import config_overrides, frozen_format, inject_strategies
from pipeline_lib.models.loading import skip_weights
from pipeline_lib.models.prompt_inputs import insert_prompt_tokens
from pipeline_lib.models.quantization import Quantization
from pipeline_lib.models.token_outputs import loss_bytes
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.strategies.base import plain_name
from pipeline_lib.training.activations import checkpoint_blocks, record_kept_bytes
from pipeline_lib.training.batches import collate
from pipeline_lib.training.device import select_device
from pipeline_lib.training.distributed.sharding import groups_of
from pipeline_lib.training.fast_paths.attention import attend_faster
from pipeline_lib.training.fast_paths.dropout import draw_faster
from pipeline_lib.training.fast_paths.embeddings import used_tokens
from pipeline_lib.training.frozen_backbone.layers import is_divided
from pipeline_lib.training.parameters import freeze_and_resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FLOAT32 = 4


class MemoryNeed(NamedTuple):
    """Bytes that each process of a training needs on its device at the same time."""

    weights: int
    """All weights, in the formats in which they are kept, and copies that regularizers keep."""
    gradients: int
    optimizer: int
    """The optimizer's averages."""
    activations: int | None
    """What the largest forward pass keeps for its backward pass; None if the model cannot be run without weights."""

    @property
    def total(self) -> int:
        """The sum of all known parts."""
        return sum(part or 0 for part in self)

    def divide(self, processes: int, gathered: int) -> "MemoryNeed":
        """Return what each process needs of a divided model, of which `gathered` bytes are whole at the same time."""
        shares = (-(-part // processes) for part in (self.weights, self.gradients, self.optimizer))
        weights, gradients, optimizer = shares
        return MemoryNeed(weights + gathered, gradients, optimizer, self.activations)


def memory_need(recipe: Recipe, base: Path, labels: Sequence[str], train: Examples) -> MemoryNeed:
    """Compute the memory that a training needs.

    Args:
        recipe: The recipe.
        base: The folder of the base; only its configuration and the headers of its weights are read.
        labels: The names of the labels.
        train: The encoded training rows.
    """
    import torch

    tokenizer = load_tokenizer(base)
    train = insert_prompt_tokens(train, recipe.strategies, tokenizer)
    device, _ = select_device(recipe.execution)
    with skip_weights(), torch.device(device):
        model, head, saved = _structure(recipe, base, labels, tokenizer)
        training = recipe.training
        table = freeze_and_resolve(model, head, recipe.strategies, training.learning_rate, 0.0)
        trained = [row.name for row in table if row.trained]
        parameters = dict(model.named_parameters())
        weights = sum(parameter.nbytes for parameter in parameters.values()) - saved
        learned = sum(parameters[name].nbytes for name in trained)
        if not recipe.objective.stochastic_targets:
            learned, weights = _narrow_embeddings(model, trained, train, tokenizer.pad_token_id, learned, weights)
        copies = any(regularizer.needs_start for regularizer in recipe.regularizers)
        state = round(learned * training.optimizer.state_floats)
        activations = _activations(recipe, model, train, tokenizer.pad_token_id)
        need = MemoryNeed(weights + copies * learned, learned, state, activations)
        if not is_divided(recipe):
            return need
        return need.divide(recipe.execution.ranks, _gathered_bytes(model))


def _gathered_bytes(model: "PreTrainedModel") -> int:
    """Return the bytes of the weights that a divided model has whole at once: those outside blocks, and two blocks.

    The next block is gathered while one computes.
    """
    *blocks, _ = groups_of(model)  # the last one is the model
    inside = [sum(weight.nbytes for weight in block.parameters()) for block in blocks]
    return sum(weight.nbytes for weight in model.parameters()) - sum(inside) + sum(sorted(inside)[-2:])


def _structure(
    recipe: Recipe, base: Path, labels: Sequence[str], tokenizer: "PreTrainedTokenizerBase"
) -> "tuple[PreTrainedModel, set[str], int]":
    """Build the model of a recipe; return it, its head's parameter names, and the bytes that quantising saves."""
    overrides = config_overrides(base, recipe.regularizers, recipe.execution.attention)
    dtype = frozen_format(recipe.strategies, recipe.model.dtype)
    model, head = recipe.objective.model(str(base), labels, dtype=dtype, **overrides)
    saved = _quantize(model, recipe.model.quantization) if recipe.model.quantization else 0
    inject_strategies(recipe.strategies, model, tokenizer)
    return model, {name for name, _ in model.named_parameters() if plain_name(name) in head}, saved


def _quantize(model: "PreTrainedModel", quantization: Quantization) -> int:
    """Convert the matrices to quantise to bfloat16, and return the bytes that quantising saves compared with that.

    Both formats are converted when they are used.
    """
    import torch

    from pipeline_lib.models.half_weights import compute_in_full
    from pipeline_lib.models.quantized_weights import quantizable

    matrices: list[Any] = [model.get_submodule(name).weight for name in quantizable(model)]
    for matrix in matrices:
        matrix.data = matrix.data.to(torch.bfloat16)
    compute_in_full(model)
    return sum(matrix.nbytes - round(matrix.numel() * quantization.bits / 8) for matrix in matrices)


def _narrow_embeddings(
    model: "PreTrainedModel", trained: Sequence[str], train: Examples, pad: int, learned: int, weights: int
) -> tuple[int, int]:
    """Return the bytes of trained and of all weights with the embeddings reduced to the tokens that occur."""
    used = used_tokens(model, trained, [train], pad)
    if used is None:
        return learned, weights
    whole: Any = model.get_input_embeddings().weight
    narrow = len(used) * whole.shape[1] * FLOAT32
    return learned - whole.nbytes + narrow, weights + narrow


def _activations(recipe: Recipe, model: "PreTrainedModel", train: Examples, pad: int) -> int | None:
    """Return the bytes that the largest pass keeps, twice with a regularizer that makes a second pass."""
    draw_faster(model)
    attend_faster(model)
    rows = _largest_pass(train.group_tokens, recipe.training.batch_size, recipe.training.batch_tokens)
    passes = 2 if any(regularizer.needs_second_forward for regularizer in recipe.regularizers) else 1
    checkpointing = recipe.training.gradient_checkpointing is True
    kept_bytes = _measure_pass(recipe, model, train, rows, pad)
    if checkpointing and kept_bytes is not None and (blocks := checkpoint_blocks(model)):
        inputs = _measure_pass(recipe, model, train, rows, pad)
        kept_bytes = (
            None if inputs is None else inputs + (kept_bytes - inputs) // blocks
        )  # one block's are computed again
    return None if kept_bytes is None else passes * kept_bytes


def _largest_pass(tokens: np.ndarray, batch_size: int, batch_tokens: int) -> np.ndarray:
    """Return the rows of the pass with the most tokens: several times the longest row, or many of the longest."""
    longest = np.argsort(-tokens, kind="stable")[:batch_size]
    return longest[: max(1, batch_tokens // int(tokens[longest[0]]))]


def _measure_pass(recipe: Recipe, model: "PreTrainedModel", train: Examples, rows: np.ndarray, pad: int) -> int | None:
    """Run the largest pass on shapes only, up to an LM head; return the bytes kept for its backward pass."""
    import torch
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        unset_fake_temporarily,
    )

    device, precision = select_device(recipe.execution)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with unset_fake_temporarily():  # the batch has values, which masking reads
        batch, targets = collate(train, train.inputs(rows), pad)
        batch, targets = recipe.objective.mask_inputs(model, batch, targets)
        learned = int((targets >= 0).sum())
    model.train()
    with record_kept_bytes(model) as bytes_of, _notes_head(model) as reached:
        try:
            with torch.autocast(device, dtype, enabled=dtype is not None):
                recipe.objective.outputs(model, {k: v.to(device) for k, v in batch.items()}, targets.to(device))
        except (DataDependentOutputException, DynamicOutputShapeException):
            if not reached:  # stopped before the model was through
                return None
    head = model.get_output_embeddings()
    loss = loss_bytes(device, learned, len(head.weight)) if reached and head is not None else 0
    return sum(bytes_of.values()) + loss


@contextmanager
def _notes_head(model: "PreTrainedModel") -> Iterator[list[bool]]:
    """Yield a list that gets an item when a language model's forward pass has come to its head.

    What follows depends on the values: which tokens are learned.
    """
    from pipeline_lib.models.lm_head import assume_plain_head

    reached: list[bool] = []
    head = model.get_output_embeddings()
    if head is None:
        yield reached
        return
    assume_plain_head(model)
    hook = head.register_forward_pre_hook(lambda module, args: reached.append(True))
    try:
        yield reached
    finally:
        hook.remove()
