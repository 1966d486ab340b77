"""Find the depth of parameters outside the blocks by tracing a short text through the model with autograd.

Autograd's graph records which parameters the inputs of a block depend on. Tables of positions that every layer reads
(DeBERTa, MPNet) are therefore below the layers, although they are next to them in the module tree. The graph also
shows which parameters the output does not depend on; these cannot be learned.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import Stack, stacks
from pipeline_lib.models.computed_tables import computed_tables

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Fed(NamedTuple):
    """Which blocks a model's parameters feed."""

    depth: dict[str, int]
    """Depth by parameter name: 0 if it feeds the first block of a stack, n if the first block it feeds is the one after
    block n, and the number of blocks + 1 if it is used only after all blocks."""
    unused: frozenset[str]
    """Names of the parameters that the model's output does not depend on."""


class _Read(NamedTuple):
    """Autograd nodes of a block's inputs: of its hidden states (only for a stack's first block), and of all inputs."""

    hidden_nodes: list[Any]
    input_nodes: list[Any]


KNOWN: "WeakKeyDictionary[nn.Module, tuple[frozenset[str], Fed]]" = WeakKeyDictionary()
"""Cached results by model, valid while it has the same parameters; a run needs them several times."""


def trace_parameters(model: "PreTrainedModel") -> Fed:
    """Trace a short text through the model, in evaluation mode and on its device.

    Raises:
        RecipeError: The model cannot process the text.
    """
    names = frozenset(name for name, _ in model.named_parameters())
    known = KNOWN.get(model)
    if known is None or known[0] != names:
        known = KNOWN[model] = names, _trace(model)
    return known[1]


def _trace(model: "PreTrainedModel") -> Fed:
    import torch

    # Every parameter that can be learned must require gradients, or the graph would not record it; restored below.
    # Autograd does not know quantised weights.
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.is_floating_point()}
    required_grad = {name: parameter.requires_grad for name, parameter in parameters.items()}
    computed = computed_tables(model)
    training = model.training
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name not in computed)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            reads, output = _trace_blocks(model.eval(), stacks(model))
    finally:
        model.train(training)
        for name, parameter in parameters.items():
            parameter.requires_grad_(required_grad[name])
    names = {id(weight): name for name, weight in parameters.items()}
    # The merged dict keeps the first depth of each parameter: `new | known` prefers `known`.
    depth_by_id: dict[int, int] = {}
    for index, read in enumerate(reads):
        for nodes, depth in ((read.hidden_nodes, 0), (read.input_nodes, index)):
            depth_by_id = dict.fromkeys(_find_parameters(nodes), depth) | depth_by_id
    used = _find_parameters(output)
    depth_by_id = dict.fromkeys(used, len(reads) + 1) | depth_by_id
    depths = {names[key]: depth for key, depth in depth_by_id.items() if key in names}
    # A text this short does not reach all experts, so an expert without gradients is not unused.
    unused = {name for key, name in names.items() if key not in used and "expert" not in name}
    return Fed(depths, frozenset(unused))


def _trace_blocks(model: "PreTrainedModel", model_stacks: Sequence[Stack]) -> tuple[list[_Read], list[Any]]:
    """Run a short text; return the autograd nodes of each block's inputs in its first call, and of the output."""
    blocks = [block.module for stack in model_stacks for block in stack.blocks]
    first_blocks = {id(stack.blocks[0].module) for stack in model_stacks}
    reads: dict[int, _Read] = {}

    def record(module: Any, args: Any, kwargs: Any) -> None:
        if id(module) not in reads:  # ALBERT calls the same block several times: only the first call counts
            hidden = args[:1] or [kwargs.get("hidden_states")]
            hidden_nodes = [*_graph_nodes(hidden)] if id(module) in first_blocks else []
            reads[id(module)] = _Read(hidden_nodes, [*_graph_nodes([args, kwargs])])

    # prepend: before the hooks of strategies, such as a prompt's, change the inputs
    hooks = [block.register_forward_pre_hook(record, with_kwargs=True, prepend=True) for block in blocks]
    # Some heads of encoder-decoder models (classification, say) build the decoder's input themselves.
    bare = model.base_model is model and not model.can_generate()
    needs_decoder_ids = model.config.is_encoder_decoder and len(model_stacks) > 1 and (model.can_generate() or bare)
    try:
        ids = _short_text(model)
        output = model(input_ids=ids, **({"decoder_input_ids": ids} if needs_decoder_ids else {}), return_dict=True)
    except Exception as error:  # the family's code can raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"is of the family {model.config.model_type}, which failed on a short test text ({reason})"
        raise RecipeError("model.base", model.name_or_path, problem, "Choose another base") from error
    finally:
        for hook in hooks:
            hook.remove()
    return [reads.get(id(block), _Read([], [])) for block in blocks], [*_graph_nodes(dict(output))]


def _short_text(model: "PreTrainedModel") -> "Tensor":
    """Return token ids [1, n] without padding: a text pair if the family has a separator token, with an end token."""
    import torch

    config: Any = model.config.get_text_config()
    pad, separator, end = (getattr(config, f"{name}_token_id", None) for name in ("pad", "sep", "eos"))
    separator, end = (mark if mark in range(config.vocab_size) else None for mark in (separator, end))
    one, two, three = [index for index in range(min(config.vocab_size, 8)) if index not in (pad, separator, end)][:3]
    # RoBERTa and similar models have two separators between texts
    ids = [one, two, three] if separator is None else [one, separator, separator, two, three, separator]
    if end is not None and end != separator:
        ids.append(end)
    return torch.tensor([ids], device=model.device)


def _graph_nodes(value: Any) -> "Iterator[Any]":
    """Yield the autograd nodes that produced the tensors in nested values."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.grad_fn is not None:
            yield value.grad_fn
        elif value.requires_grad:  # a parameter itself has no node; a view of it does
            yield value.view_as(value).grad_fn
    elif isinstance(value, dict):
        for part in value.values():
            yield from _graph_nodes(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _graph_nodes(part)


def _find_parameters(nodes: Sequence[Any]) -> set[int]:
    """Return the `id()` of all parameters that autograd nodes depend on, by walking the graph backwards."""
    seen, pending, parameters = set(nodes), [*nodes], set[int]()
    while pending:
        node = pending.pop()
        # only the leaves of the graph, AccumulateGrad nodes, have a `variable`
        if (variable := getattr(node, "variable", None)) is not None:
            parameters.add(id(variable))
        new = {previous for previous, _ in node.next_functions if previous is not None} - seen
        seen |= new
        pending.extend(new)
    return parameters
