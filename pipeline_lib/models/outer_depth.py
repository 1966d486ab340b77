"""Where the parameters stand that are in no block: found by what they feed, not by their names.

A short text goes through the model, and autograd says which inputs of which block each parameter reaches: tables of
positions that every layer reads (DeBERTa, MPNet) are below the layers, though they stand beside them in the module
tree.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import Stack, stacks

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

TOKENS = 4
"""Length of the text."""
KNOWN: "WeakKeyDictionary[nn.Module, tuple[frozenset[str], dict[str, int | None]]]" = WeakKeyDictionary()
"""What was found for a model, as long as it has the same parameters: it is asked for several times in a run."""


def outer_depths(model: "PreTrainedModel", names: Collection[str]) -> dict[str, int | None]:
    """The depth of each of these parameters, none of which is in a block.

    0 for what feeds the first block of a stack, n for what first feeds the block after the n-th, and one more than
    there are blocks for what feeds none. None for what the model's output does not depend on: it cannot be learned.
    """
    asked = frozenset(names)
    known, found = KNOWN.get(model, (frozenset(), {}))
    if known != asked:
        found = _probe(model, sorted(asked))
        KNOWN[model] = asked, found
    return found


def _probe(model: "PreTrainedModel", names: list[str]) -> dict[str, int | None]:
    import torch

    parameters = dict(model.named_parameters())
    asked = {name: parameters[name] for name in names if parameters[name].is_floating_point()}
    was = {name: (parameter.requires_grad, parameter.grad) for name, parameter in asked.items()}
    found_stacks, training = stacks(model), model.training
    try:
        for parameter in asked.values():
            parameter.requires_grad_(True)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            reads, output = _run(model.eval(), found_stacks)
            return _depths(asked, reads, output)
    finally:
        model.train(training)
        for name, parameter in asked.items():
            parameter.requires_grad_(was[name][0])


def _depths(
    asked: "dict[str, nn.Parameter]", reads: "list[tuple[Tensor | None, Tensor | None]]", output: "Tensor | None"
) -> dict[str, int | None]:
    """`reads` holds two sums for each block: of hidden states, where it is a stack's first, and of all its inputs."""
    found: dict[str, int | None] = {}
    for index, (embedded, given) in enumerate(reads):
        for total, depth in ((embedded, 0), (given, index)):
            left = {name: parameter for name, parameter in asked.items() if name not in found}
            found |= dict.fromkeys(_reaching(left, total), depth)
    left = {name: parameter for name, parameter in asked.items() if name not in found}
    found |= dict.fromkeys(_reaching(left, output), len(reads) + 1)
    return found | {name: None for name in asked if name not in found}


def _reaching(parameters: "dict[str, nn.Parameter]", total: "Tensor | None") -> list[str]:
    """The parameters that a sum depends on."""
    import torch

    if total is None or not parameters:
        return []
    gradients = torch.autograd.grad(total, [*parameters.values()], retain_graph=True, allow_unused=True)
    return [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


def _run(
    model: "PreTrainedModel", found: Sequence[Stack]
) -> "tuple[list[tuple[Tensor | None, Tensor | None]], Tensor | None]":
    """A short text through the model: what each block has read in its first call, and what came out."""
    blocks = [block for stack in found for block in stack.blocks]
    firsts = {id(stack.blocks[0].module) for stack in found}
    reads: dict[int, tuple[Tensor | None, Tensor | None]] = {}

    def note(module: Any, args: Any, kwargs: Any) -> None:
        if id(module) not in reads:
            hidden = args[:1] or [kwargs.get("hidden_states")]
            reads[id(module)] = (_total(hidden) if id(module) in firsts else None, _total([args, kwargs]))

    hooks = [block.module.register_forward_pre_hook(note, with_kwargs=True, prepend=True) for block in blocks]
    ids = _short_text(model)
    bare = model.base_model is model and not model.can_generate()
    writes = model.config.is_encoder_decoder and len(found) > 1 and (model.can_generate() or bare)
    try:
        output = _total(model(input_ids=ids, **({"decoder_input_ids": ids} if writes else {}), return_dict=True))
    except Exception as error:  # whatever the family's code raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"is of the family {model.config.model_type}, which cannot read {TOKENS} tokens ({reason})"
        raise RecipeError("model.base", model.name_or_path, problem, "Choose another base") from error
    finally:
        for hook in hooks:
            hook.remove()
    return [reads.get(id(block.module), (None, None)) for block in blocks], output


def _short_text(model: "PreTrainedModel") -> "Tensor":
    """[1, TOKENS] ids without padding; the last one ends a text, as classifiers of encoder-decoders need it."""
    import torch

    config: Any = model.config.get_text_config()
    end = config.eos_token_id if config.eos_token_id in range(config.vocab_size) else None
    usual = [index for index in range(min(config.vocab_size, 2 * TOKENS)) if index not in (config.pad_token_id, end)]
    ids = [usual[index % len(usual)] for index in range(TOKENS - 1)] + [usual[-1] if end is None else end]
    return torch.tensor([ids], device=model.device)


def _total(value: Any) -> "Tensor | None":
    """The sum of all numbers in nested values that gradients go through."""
    parts = [tensor.double().sum() for tensor in _tensors(value)]
    return sum(parts[1:], parts[0]) if parts else None


def _tensors(value: Any) -> "Iterator[Tensor]":
    import torch

    if isinstance(value, torch.Tensor):
        if value.requires_grad and value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
