"""Write a trained model as an ONNX graph with dynamic numbers of rows and tokens, by transformers' exporter."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.data.examples import VIRTUAL
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.model_files import copy_tokenizer, write_config
from pipeline_lib.export.plain_weights import SERVE, fold_target_scale, unwrap
from pipeline_lib.export.verification import first_windows, require_equal, verified_inputs, with_virtual_tokens
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_trained, read_card
from pipeline_lib.store.lineage import Lineage
from pipeline_lib.strategies import Strategy

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GRAPH = "model.onnx"
OUTPUTS = ("logits", "start_logits", "end_logits")
"""The outputs of a model that its graph has, as far as the model has them."""
PAIR_ROLES = {"text_pair", "question"}
"""Roles of texts that make the input a pair, so that the model reads which text a token belongs to."""


class VirtualTokens(NamedTuple):
    """The virtual tokens of a learned prompt, which the graph inserts into its inputs and removes from its outputs."""

    ids: list[int]
    begin: int
    """Position of the first one: 1 if inputs begin with a special token, else 0."""

    def insert(self, name: str, values: "Tensor") -> "Tensor":
        """Insert them into an input [rows, tokens]; they are attended to, and belong to the first text."""
        import torch

        added = (
            torch.tensor(self.ids) if name == "input_ids" else torch.full((len(self.ids),), name == "attention_mask")
        )
        added = added.to(values.dtype).expand(values.shape[0], -1)
        return torch.cat([values[:, : self.begin], added, values[:, self.begin :]], 1)

    def remove(self, output: "Tensor") -> "Tensor":
        """Remove their places from an output [rows, tokens, ...]."""
        import torch

        return torch.cat([output[:, : self.begin], output[:, self.begin + len(self.ids) :]], 1)


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
    model = load_trained(lineage.model, lineage.base)
    _refuse_generator(model)
    inputs = verified_inputs(tokenizer, rows)
    virtual = _virtual_tokens(card["strategies"], tokenizer, inputs)
    segments = _segments(card["asked"], tokenizer, rows, inputs)
    read = with_virtual_tokens(inputs, card["strategies"], tokenizer)
    expected = [_run(model, ids, segments[row] if segments else None, virtual) for row, ids in enumerate(read)]
    if virtual and _is_per_token(model):
        expected = [{name: virtual.remove(output) for name, output in outputs.items()} for outputs in expected]
    unwrap(model)
    if scale := card["target_scale"]:
        expected = [{name: output * scale.deviation + scale.mean for name, output in row.items()} for row in expected]
        fold_target_scale(model, scale)
    batch = _batch(inputs, segments, tokenizer.pad_token_id)
    _export(model, virtual, batch, out)
    write_config(lineage.model, out)
    copy_tokenizer(lineage.model, out)
    _verify(out / GRAPH, inputs, batch, expected)


def _refuse_generator(model: "PreTrainedModel") -> None:
    if model.config.is_encoder_decoder and model.can_generate():
        problem = f"{type(model).__name__} runs its decoder once for each generated token, which is more than one graph"
        raise RecipeError("--format", "onnx", problem, "Export it with --format huggingface")


def _virtual_tokens(
    strategies: Sequence[Strategy], tokenizer: "PreTrainedTokenizerBase", inputs: "list[Tensor]"
) -> VirtualTokens | None:
    """Return the virtual tokens of a prompt, if there is one; raise RecipeError if their place depends on the row."""
    prompt = next((strategy.prompt() for strategy in strategies if strategy.prompt()), None)
    if prompt is None:
        return None
    if prompt.after:
        problem = "a learned prompt after the text has another place in each padded row, which the graph does not know"
        raise RecipeError("--format", "onnx", problem, SERVE)
    first = with_virtual_tokens(inputs[:1], strategies, tokenizer)[0][0]
    places = (first <= VIRTUAL).nonzero().flatten()
    return VirtualTokens(first[places].tolist(), int(places[0]))


def _is_per_token(model: "PreTrainedModel") -> bool:
    return not type(model).__name__.endswith("ForSequenceClassification")


def _segments(
    asked: Mapping[str, bool],
    tokenizer: "PreTrainedTokenizerBase",
    rows: "pyarrow.Table | None",
    inputs: "list[Tensor]",
) -> "list[Tensor] | None":
    """Return which text each token belongs to, for each input, if the model was trained on pairs and reads it."""
    import torch

    if not PAIR_ROLES & asked.keys() or "token_type_ids" not in tokenizer.model_input_names:
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
        return _outputs(model(**inputs, **_settings(model)))


def _settings(model: "PreTrainedModel") -> dict[str, Any]:
    """Return arguments of the forward pass: no cache of keys and values in a decoder."""
    return {"use_cache": False} if model.can_generate() else {}


def _outputs(output: Any) -> "dict[str, Tensor]":
    return {name: output[name] for name in OUTPUTS if name in output}


def _batch(inputs: "list[Tensor]", segments: "list[Tensor] | None", pad: int) -> "dict[str, Tensor]":
    """Pad all inputs on the right to one batch of at least two rows: torch takes a size of 1 for fixed."""
    import torch

    times = 2 if len(inputs) == 1 else 1
    columns = {"input_ids": (inputs, pad), "attention_mask": ([torch.ones_like(ids) for ids in inputs], 0)}
    if segments is not None:
        columns["token_type_ids"] = (segments, 0)
    return {
        name: torch.nn.utils.rnn.pad_sequence([row[0] for row in rows] * times, batch_first=True, padding_value=fill)
        for name, (rows, fill) in columns.items()
    }


def _export(model: "PreTrainedModel", virtual: VirtualTokens | None, batch: "dict[str, Tensor]", out: Path) -> None:
    """Trace the model on a batch, and write its graph."""
    from torch.export import Dim
    from transformers.exporters import OnnxConfig, OnnxExporter

    original: Any = model.forward

    def forward(**inputs: "Tensor") -> "dict[str, Tensor]":
        if virtual:
            inputs = {name: virtual.insert(name, values) for name, values in inputs.items()}
        outputs = _outputs(original(**inputs, **_settings(model)))
        if virtual and _is_per_token(model):
            outputs = {name: virtual.remove(output) for name, output in outputs.items()}
        return outputs

    model.forward = forward  # type: ignore[method-assign]
    sizes = {name: {0: Dim.AUTO, 1: Dim.AUTO} for name in batch}
    with _quiet():
        try:
            graph = OnnxExporter().export(model, dict(batch), OnnxConfig(dynamic_shapes=sizes))
        except Exception as error:  # torch raises many types for what it cannot trace
            reason = " ".join(str(error).split())[:150] or type(error).__name__
            problem = f"torch cannot express {type(model).__name__} as a graph ({reason})"
            raise RecipeError("--format", "onnx", problem, "Export it with --format huggingface") from error
    _name_sizes(graph.program.graph)
    graph.save_pretrained(out)


def _name_sizes(graph: Any) -> None:
    """Name the dynamic sizes of inputs and outputs."""
    for value in (*graph.inputs, *graph.outputs):
        for axis, name in enumerate(("rows", "tokens")):
            if axis < len(value.shape) and not isinstance(value.shape[axis], int):
                value.shape[axis] = name


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's progress, its warnings about other models, and the code that it could not trace."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(loggers, levels):
            log.setLevel(level)


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
