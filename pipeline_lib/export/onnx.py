"""Write a trained model as an ONNX graph with dynamic numbers of rows and tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.examples import VIRTUAL
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.model_files import copy_tokenizer, write_config
from pipeline_lib.export.onnx_graph import VirtualTokens, is_per_token, outputs_by_name, trace
from pipeline_lib.export.plain_weights import SERVE, fold_target_scale, unwrap
from pipeline_lib.export.verification import first_windows, require_equal, verification_inputs, with_virtual_tokens
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_trained, read_card
from pipeline_lib.store.lineage import Lineage
from pipeline_lib.strategies import Strategy

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GRAPH = "model.onnx"
PAIR_ROLES = {"text_pair", "question"}
"""Roles of texts that make the input a pair, so that the model reads which text a token belongs to."""


def write_graph(lineage: Lineage, out: Path, rows: "pyarrow.Table | None" = None) -> None:
    """Write model.onnx with its weights beside it, config and tokenizer, and verify the result.

    Args:
        lineage: The trained model, and the folder of its base if it is stored without it.
        out: The folder to write to.
        rows: Encoded rows to verify on; without any, a built-in sentence.

    Raises:
        RecipeError: If the model is not one forward pass, or cannot be written as a graph.
    """
    card, tokenizer = read_card(lineage.model), load_tokenizer(lineage.model)
    model = load_trained(lineage.model, lineage.base, plain=True)
    _refuse_generator(model)
    inputs = verification_inputs(tokenizer, rows)
    virtual = _virtual_tokens(card["strategies"], tokenizer, inputs)
    segments = _segments(card["asked"], tokenizer, rows, inputs)
    read = with_virtual_tokens(inputs, card["strategies"], tokenizer)
    expected = [_run(model, ids, segments[row] if segments else None, virtual) for row, ids in enumerate(read)]
    if virtual and is_per_token(model):
        expected = [{name: virtual.remove(output) for name, output in outputs.items()} for outputs in expected]
    unwrap(model)
    if scale := card["target_scale"]:
        expected = [{name: output * scale.deviation + scale.mean for name, output in row.items()} for row in expected]
        fold_target_scale(model, scale)
    batch = _batch(inputs, segments, tokenizer.pad_token_id)
    trace(model, virtual, batch, out)
    write_config(lineage.model, out)
    copy_tokenizer(lineage.model, out)
    _verify(out / GRAPH, inputs, batch, expected)


def _refuse_generator(model: "PreTrainedModel") -> None:
    if model.config.is_encoder_decoder and model.can_generate():
        problem = (
            f"{type(model).__name__} runs its decoder once per generated token, which a single graph cannot express"
        )
        raise RecipeError("--format", "onnx", problem, "Export it with --format huggingface")


def _virtual_tokens(
    strategies: Sequence[Strategy], tokenizer: "PreTrainedTokenizerBase", inputs: "list[Tensor]"
) -> VirtualTokens | None:
    """Return the virtual tokens of a prompt, if there is one; raise RecipeError if their place depends on the row."""
    prompt = next((strategy.prompt() for strategy in strategies if strategy.prompt()), None)
    if prompt is None:
        return None
    if prompt.after:
        problem = (
            "a learned prompt after the text has a different position in each padded row, which a graph cannot express"
        )
        raise RecipeError("--format", "onnx", problem, SERVE)
    first = with_virtual_tokens(inputs[:1], strategies, tokenizer)[0][0]
    places = (first <= VIRTUAL).nonzero().flatten()
    return VirtualTokens(first[places].tolist(), int(places[0]))


def _segments(
    input_roles: Mapping[str, bool],
    tokenizer: "PreTrainedTokenizerBase",
    rows: "pyarrow.Table | None",
    inputs: "list[Tensor]",
) -> "list[Tensor] | None":
    """Return which text each token belongs to, for each input, if the model was trained on pairs and reads it."""
    import torch

    if not PAIR_ROLES & input_roles.keys() or "token_type_ids" not in tokenizer.model_input_names:
        return None
    if rows is None:
        return [torch.zeros_like(ids) for ids in inputs]
    return [torch.tensor([values]) for values in first_windows(rows, "token_type_ids")]


def _run(
    model: "PreTrainedModel", ids: "Tensor", segments: "Tensor | None", virtual: VirtualTokens | None
) -> "dict[str, Tensor]":
    """Return the outputs of the trained model by name, for ids [1, tokens] with virtual tokens."""
    import torch

    inputs = {"input_ids": ids}
    if segments is not None:
        inputs["token_type_ids"] = virtual.insert("token_type_ids", segments) if virtual else segments
    with torch.no_grad():
        return outputs_by_name(model, inputs)


def _batch(inputs: "list[Tensor]", segments: "list[Tensor] | None", pad: int) -> "dict[str, Tensor]":
    """Pad all inputs on the right to one batch of at least two rows: torch treats a size of 1 as fixed."""
    import torch

    times = 2 if len(inputs) == 1 else 1
    columns = {"input_ids": (inputs, pad), "attention_mask": ([torch.ones_like(ids) for ids in inputs], 0)}
    if segments is not None:
        columns["token_type_ids"] = (segments, 0)
    return {
        name: torch.nn.utils.rnn.pad_sequence([row[0] for row in rows] * times, batch_first=True, padding_value=fill)
        for name, (rows, fill) in columns.items()
    }


def _verify(
    path: Path, inputs: "list[Tensor]", batch: "dict[str, Tensor]", expected: "list[dict[str, Tensor]]"
) -> None:
    """Compare the graph's outputs for single rows and for the padded batch with the trained model's."""
    import torch
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(feed: "dict[str, Tensor]") -> "dict[str, Tensor]":
        values = session.run(None, {name: values.numpy() for name, values in feed.items()})
        return {output.name: torch.from_numpy(value) for output, value in zip(session.get_outputs(), values)}

    padded = run(batch)
    for row, outputs in enumerate(expected):
        length = inputs[row].shape[1]
        single = run({name: values[row : row + 1, :length] for name, values in batch.items()})
        for name, right in outputs.items():
            in_batch = padded[name][row : row + 1]
            if in_batch.shape != right.shape:
                in_batch = in_batch[:, :length]
            require_equal([single[name], in_batch], [right, right], "onnx", "ONNX Runtime")
