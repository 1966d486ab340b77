"""Run a small batch through the model, and check that exactly the trainable parameters get a gradient."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.checks.findings import Finding, join_names
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_initial
from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.models.prompt_inputs import insert_prompt_tokens
from pipeline_lib.training.batches import collate
from pipeline_lib.training.parameters import freeze_and_resolve

if TYPE_CHECKING:
    import pyarrow
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples
    from pipeline_lib.recipe.schema import Recipe

ROWS = 32
"""Rows to encode; the shortest of their inputs go through the model."""
INPUTS, TOKENS = 8, 256
"""Maximum number of groups of inputs, and of tokens from the third group on: all activations are kept in fp32."""
NOISE = 0.02
"""Standard deviation of the noise added to trainable parameters."""
HINT = "Report it as a bug: a strategy, the objective or the base's architecture is not supported correctly"


def model_findings(
    recipe: "Recipe", base: Path, initial: Path, rows: "pyarrow.Table", labels: Sequence[str]
) -> Iterator[Finding]:
    """Find parameters that lack a gradient or have an unexpected one, heads set up wrongly, and inputs that fail."""
    model, head = load_initial(base, initial, dtype=recipe.model.dtype)
    table = freeze_and_resolve(model, head, recipe.strategies, 1.0, 0.0)
    trained = {row.name for row in table if row.trained}
    yield from _head(model, head, trained, labels)
    yield from _find_unused_in_layers(recipe, model, head)
    sample = rows.take(np.unique(np.linspace(0, len(rows) - 1, ROWS).astype(np.int64)))
    tokenizer = load_tokenizer(initial)
    encoded = insert_prompt_tokens(recipe.objective.features(sample, labels), recipe.strategies, tokenizer)
    shortest = find_shortest(encoded)
    reached = find_parameters_with_gradient(recipe, model, encoded, shortest, trained, tokenizer.pad_token_id)
    for names, problem in (
        (sorted(trained - reached), "trainable parameters get no gradient"),
        (sorted(reached - trained), "frozen parameters get a gradient"),
    ):
        if names and reached:
            yield Finding("model", len(names), len(table), f"{len(names):,} {problem}: {join_names(names)}", HINT)
    if not reached:
        problem = f"none of {len(trained):,} trainable parameters gets a gradient from {len(shortest)} training rows"
        yield Finding("model", len(trained), len(trained), problem, HINT)
    yield from _longest(recipe, model, rows, labels, tokenizer)


def _find_unused_in_layers(recipe: "Recipe", model: "PreTrainedModel", head: set[str]) -> Iterator[Finding]:
    """Report parameters of layers that a strategy selects although the output does not depend on them."""
    in_layers = [info for info in parameter_infos(model, head).values() if 0 < info.depth <= info.layers]
    infos = [info for info in in_layers if info.fixed]
    if len(infos) == len(in_layers):  # then nothing gets a gradient, which is reported below
        return
    selected = [info.name for info in infos if any(strategy.is_trainable(info) for strategy in recipe.strategies)]
    if selected:
        problem = f"{len(selected):,} parameters of layers are not trained: the output does not depend on them"
        yield Finding("model", len(selected), len(infos), f"{problem}: {join_names(sorted(selected))}", HINT)


def _longest(
    recipe: "Recipe", model: "PreTrainedModel", rows: "pyarrow.Table", labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
) -> Iterator[Finding]:  # fmt: skip
    """Check that the longest training input fits, on the device and in the precision of the training."""
    from pipeline_lib.training.device import reader, select_device

    lengths = [_tokens(ids) for ids in rows["input_ids"].to_pylist()]
    row = rows.take([int(np.argmax(lengths))])
    encoded = insert_prompt_tokens(recipe.objective.features(row, labels), recipe.strategies, tokenizer)
    accelerator = reader(*select_device(recipe.execution))
    longest = encoded.inputs(np.argsort(-encoded.group_tokens, kind="stable")[:1])
    model.zero_grad()
    try:
        model.to(accelerator.device)
        batch, targets = collate(encoded, longest, tokenizer.pad_token_id, accelerator.device)
        batch, targets = recipe.objective.mask_inputs(model, batch, targets)
        with accelerator.autocast():
            outputs = recipe.objective.outputs(model, batch, targets)
        recipe.objective.loss_sum(outputs, targets).backward()
    except (RuntimeError, ValueError, IndexError) as error:  # torch raises RuntimeError when out of memory
        reason = " ".join(str(error).split())[:200]
        tokens = int(encoded.lengths[longest].max())
        problem = f"the longest training input, of {tokens:,} tokens, fails on {accelerator.device} ({reason})"
        yield Finding("model", 1, len(rows), problem, "Set a smaller max_length, or choose another device")


def find_shortest(encoded: "Examples") -> np.ndarray:
    """Return the indices of the shortest groups of inputs."""
    groups = np.argsort(encoded.group_tokens, kind="stable")[:INPUTS]
    return groups[: max(2, int((np.cumsum(encoded.group_tokens[groups]) <= TOKENS).sum()))]


def _tokens(ids: Sequence[Any]) -> int:
    """The number of tokens of a row, over all of its windows."""
    return sum(map(len, ids)) if ids and isinstance(ids[0], list) else len(ids)


def find_parameters_with_gradient(
    recipe: "Recipe", model: "PreTrainedModel", encoded: "Examples", groups: np.ndarray, trained: set[str], pad: int
) -> set[str]:
    """Return the names of the parameters that get a gradient from the loss of a few groups of inputs.

    Noise is added to the trainable parameters first: modules that are initialized to zero (LoRA's B, the up-projection
    of a bottleneck) would pass no gradient to the parameters before them.
    """
    import torch

    objective = recipe.objective
    inputs = encoded.inputs(groups)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        _add_noise({name: parameter for name, parameter in model.named_parameters() if name in trained})
        batch, targets = objective.mask_inputs(model.eval(), *collate(encoded, inputs, pad))
        objective.loss_sum(objective.outputs(model, batch, targets), targets).backward()
    return {name for name, parameter in model.named_parameters() if _has_gradient(parameter)}


def _has_gradient(parameter: "nn.Parameter") -> bool:
    """Whether there is a gradient. A vector's may be zero: a constant added to all logits does not change a softmax."""
    return parameter.grad is not None and (parameter.dim() < 2 or bool(parameter.grad.any()))


def _add_noise(parameters: "dict[str, nn.Parameter]") -> None:
    import torch

    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(NOISE * torch.randn_like(parameter))


def _head(model: "PreTrainedModel", head: set[str], trained: set[str], labels: Sequence[str]) -> Iterator[Finding]:
    """Check that a new head is trained, does not start with constant weights, and has the labels of the data."""
    parameters = dict(model.named_parameters())
    if frozen := sorted(head - trained):
        yield Finding("model", len(frozen), len(head), f"the new head is not trained: {join_names(frozen)}", HINT)
    if flat := sorted(name for name in head if parameters[name].dim() > 1 and not parameters[name].std()):
        yield Finding(
            "model", len(flat), len(head), f"the new head starts with equal weights: {join_names(flat)}", HINT
        )
    named = [*(model.config.id2label or {}).values()] if head and labels else [*labels]
    if named != [*labels]:
        problem = f"the model's labels differ from the data's: {join_names(named)} instead of {join_names(labels)}"
        yield Finding("model", len(named), len(labels), problem, HINT)
