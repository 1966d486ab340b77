"""One small batch through the model: does what is to be trained get a gradient, and nothing else?"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.checks.findings import Finding, listed
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_initial
from pipeline_lib.models.prompt_inputs import with_prompt_tokens
from pipeline_lib.training.batches import collate
from pipeline_lib.training.parameters import freeze_and_resolve

if TYPE_CHECKING:
    import pyarrow
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples
    from pipeline_lib.recipe.schema import Recipe

ROWS, INPUTS = 32, 8
"""Rows that inputs are made of, and how many groups of these, the shortest ones, go through the model."""
STIR = 0.02
MEND = "Report it: a strategy, the objective or the base's architecture does not fit this project's code"


def model_findings(
    recipe: "Recipe", base: Path, initial: Path, rows: "pyarrow.Table", labels: Sequence[str]
) -> Iterator[Finding]:
    """Parameters without the gradient that they need or with one that they should not have; what is odd in a head."""
    model, head = load_initial(base, initial)
    table = freeze_and_resolve(model, head, recipe.strategies, 1.0, 0.0)
    trained = {row.name for row in table if row.trained}
    yield from _head(model, head, trained, labels)
    few = rows.take(np.unique(np.linspace(0, len(rows) - 1, ROWS).astype(np.int64)))
    encoded = with_prompt_tokens(recipe.objective.features(few, labels), recipe.strategies, load_tokenizer(initial))
    got = with_gradient(recipe, model, encoded, trained, load_tokenizer(initial).pad_token_id)
    for names, problem in (
        (sorted(trained - got), "parameters are to be trained and get no gradient"),
        (sorted(got - trained), "parameters are not to be trained and get a gradient"),
    ):
        if names and got:
            yield Finding("model", len(names), len(table), f"{len(names):,} {problem}: {listed(names)}", MEND)
    if not got:
        problem = f"none of {len(trained):,} parameters gets a gradient from {INPUTS} training rows"
        yield Finding("model", len(trained), len(trained), problem, MEND)
    yield from _longest(recipe, model, rows, labels, load_tokenizer(initial))


def _longest(
    recipe: "Recipe", model: "PreTrainedModel", rows: "pyarrow.Table", labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
) -> Iterator[Finding]:  # fmt: skip
    """The longest training input must be computed where and how it will be trained."""
    from pipeline_lib.training.device import chosen, reader

    lengths = [_tokens(ids) for ids in rows["input_ids"].to_pylist()]
    row = rows.take([int(np.argmax(lengths))])
    encoded = with_prompt_tokens(recipe.objective.features(row, labels), recipe.strategies, tokenizer)
    here = reader(*chosen(recipe.execution))
    longest = encoded.inputs(np.argsort(-encoded.group_tokens, kind="stable")[:1])
    model.zero_grad()
    try:
        model.to(here.device)
        batch, targets = collate(encoded, longest, tokenizer.pad_token_id, here.device)
        batch, targets = recipe.objective.mask_inputs(model, batch, targets)
        with here.autocast():
            logits = recipe.objective.forward(model, batch, targets)
        recipe.objective.loss_sum(logits, targets).backward()
    except (RuntimeError, ValueError, IndexError) as error:  # torch's for too much memory is the first of these
        reason = " ".join(str(error).split())[:200]
        tokens = int(encoded.lengths[longest].max())
        problem = f"the longest training input, of {tokens:,} tokens, cannot be computed on {here.device} ({reason})"
        yield Finding("model", 1, len(rows), problem, "Set a smaller max_length, or choose another device")


def _tokens(ids: Sequence[Any]) -> int:
    """How many tokens a row has, in all of its windows where it has several."""
    return sum(map(len, ids)) if ids and isinstance(ids[0], list) else len(ids)


def with_gradient(
    recipe: "Recipe", model: "PreTrainedModel", encoded: "Examples", trained: set[str], pad: int
) -> set[str]:
    """The names of the parameters to which the loss of a few inputs gives a gradient.

    What is trained is moved a little first: modules that start as nothing (LoRA's B, the way out of a bottleneck) would
    let no gradient through to what stands before them.
    """
    import torch

    objective = recipe.objective
    inputs = encoded.inputs(np.argsort(encoded.group_tokens, kind="stable")[:INPUTS])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        _stir({name: parameter for name, parameter in model.named_parameters() if name in trained})
        batch, targets = objective.mask_inputs(model.eval(), *collate(encoded, inputs, pad))
        objective.loss_sum(objective.forward(model, batch, targets), targets).backward()
    return {name for name, parameter in model.named_parameters() if _moved(parameter)}


def _moved(parameter: "nn.Parameter") -> bool:
    """Whether there is a gradient. A vector's may be zero: to add to all scores of a softmax changes nothing."""
    return parameter.grad is not None and (parameter.dim() < 2 or bool(parameter.grad.any()))


def _stir(parameters: "dict[str, nn.Parameter]") -> None:
    import torch

    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(STIR * torch.randn_like(parameter))


def _head(model: "PreTrainedModel", head: set[str], trained: set[str], labels: Sequence[str]) -> Iterator[Finding]:
    """A head must be trained, must not start with all outputs alike, and names the labels as the data does."""
    parameters = dict(model.named_parameters())
    if frozen := sorted(head - trained):
        yield Finding("model", len(frozen), len(head), f"the new head is not trained: {listed(frozen)}", MEND)
    if flat := sorted(name for name in head if parameters[name].dim() > 1 and not parameters[name].std()):
        yield Finding("model", len(flat), len(head), f"the new head starts with equal weights: {listed(flat)}", MEND)
    named = [*(model.config.id2label or {}).values()] if head and labels else [*labels]
    if named != [*labels]:
        problem = f"the model's labels are not the data's: {listed(named)} in place of {listed(labels)}"
        yield Finding("model", len(named), len(labels), problem, MEND)
