"""What parameters feed: found by following a short text through the model, not by their names.

Autograd keeps what every number was made of. So it says which parameters the inputs of a block depend on: tables of
positions that every layer reads (DeBERTa, MPNet) are below the layers, though they stand beside them in the module
tree. And it says which parameters nothing depends on: these cannot be learned.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import Stack, stacks

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Fed(NamedTuple):
    """What a model's parameters feed, by name."""

    depth: dict[str, int]
    """0 for what feeds the first block of a stack, n for what first feeds the block after the n-th; for what is read
    behind all blocks, their number and one."""
    unused: frozenset[str]
    """What the model's output does not depend on."""


class _Read(NamedTuple):
    """What autograd knows of a block's inputs: of hidden states, where the block is a stack's first, and of all."""

    embedded: list[Any]
    given: list[Any]


KNOWN: "WeakKeyDictionary[nn.Module, tuple[frozenset[str], Fed]]" = WeakKeyDictionary()
"""What was found for a model, as long as it has the same parameters: it is asked for several times in a run."""


def what_parameters_feed(model: "PreTrainedModel") -> Fed:
    """Follow a short text through the model, in evaluation mode and on its device.

    Raises RecipeError where the model cannot read it.
    """
    names = frozenset(name for name, _ in model.named_parameters())
    known = KNOWN.get(model)
    if known is None or known[0] != names:
        known = KNOWN[model] = names, _follow(model)
    return known[1]


def _follow(model: "PreTrainedModel") -> Fed:
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    learned, training = [parameter.requires_grad for parameter in parameters], model.training
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            reads, output = _run(model.eval(), stacks(model))
    finally:
        model.train(training)
        for parameter, was in zip(parameters, learned, strict=True):
            parameter.requires_grad_(was)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[int, int] = {}
    for index, read in enumerate(reads):
        for made, depth in ((read.embedded, 0), (read.given, index)):
            found = dict.fromkeys(_reached(made), depth) | found
    used = _reached(output)
    found = dict.fromkeys(used, len(reads) + 1) | found
    depths = {names[key]: depth for key, depth in found.items() if key in names}
    # a text so short does not reach all experts
    unused = {name for key, name in names.items() if key not in used and "expert" not in name}
    return Fed(depths, frozenset(unused))


def _run(model: "PreTrainedModel", found: Sequence[Stack]) -> tuple[list[_Read], list[Any]]:
    """What autograd knows of each block's inputs in its first call, and of what comes out."""
    blocks = [block.module for stack in found for block in stack.blocks]
    firsts = {id(stack.blocks[0].module) for stack in found}
    reads: dict[int, _Read] = {}

    def note(module: Any, args: Any, kwargs: Any) -> None:
        if id(module) not in reads:
            hidden = args[:1] or [kwargs.get("hidden_states")]
            embedded = [*_made_of(hidden)] if id(module) in firsts else []
            reads[id(module)] = _Read(embedded, [*_made_of([args, kwargs])])

    hooks = [block.register_forward_pre_hook(note, with_kwargs=True, prepend=True) for block in blocks]
    ids = _short_text(model)
    bare = model.base_model is model and not model.can_generate()
    writes = model.config.is_encoder_decoder and len(found) > 1 and (model.can_generate() or bare)
    try:
        output = model(input_ids=ids, **({"decoder_input_ids": ids} if writes else {}), return_dict=True)
    except Exception as error:  # whatever the family's code raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"is of the family {model.config.model_type}, which cannot read a short text ({reason})"
        raise RecipeError("model.base", model.name_or_path, problem, "Choose another base") from error
    finally:
        for hook in hooks:
            hook.remove()
    return [reads.get(id(block), _Read([], [])) for block in blocks], [*_made_of(dict(output))]


def _short_text(model: "PreTrainedModel") -> "Tensor":
    """[1, n] ids without padding: as a pair of texts where the family tells them apart by separators, with an end."""
    import torch

    config: Any = model.config.get_text_config()
    pad, separator, end = (getattr(config, f"{name}_token_id", None) for name in ("pad", "sep", "eos"))
    marks = [mark if mark in range(config.vocab_size) else None for mark in (separator, end)]
    one, two, three = [index for index in range(min(config.vocab_size, 8)) if index not in (pad, *marks)][:3]
    ids = [one, two, three] if marks[0] is None else [one, marks[0], marks[0], two, three, marks[0]]
    if marks[1] is not None and marks[1] != marks[0]:
        ids.append(marks[1])
    return torch.tensor([ids], device=model.device)


def _made_of(value: Any) -> "Iterator[Any]":
    """The nodes of autograd's graph that have made the tensors in nested values."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.grad_fn is not None:
            yield value.grad_fn
        elif value.requires_grad:  # a parameter itself
            yield value.view_as(value).grad_fn
    elif isinstance(value, dict):
        for part in value.values():
            yield from _made_of(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _made_of(part)


def _reached(nodes: Sequence[Any]) -> set[int]:
    """The ids of all parameters that nodes of autograd's graph depend on."""
    seen, left, found = set(nodes), [*nodes], set[int]()
    while left:
        node = left.pop()
        if (variable := getattr(node, "variable", None)) is not None:
            found.add(id(variable))
        new = {before for before, _ in node.next_functions if before is not None} - seen
        seen |= new
        left.extend(new)
    return found
