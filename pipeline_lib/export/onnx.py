"""Write a trained model as an ONNX graph with dynamic numbers of rows and tokens, by transformers' exporter."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.data.examples import VIRTUAL
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.model_files import copy_tokenizer, write_config
from pipeline_lib.export.plain_weights import SERVE, fold_target_scale, unwrap
from pipeline_lib.export.verification import require_equal, verified_inputs, with_virtual_tokens
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
    expected = [_run(model, input_ids=ids) for ids in with_virtual_tokens(inputs, card["strategies"], tokenizer)]
    if virtual and _is_per_token(model):
        expected = [{name: virtual.remove(output) for name, output in outputs.items()} for outputs in expected]
    unwrap(model)
    if scale := card["target_scale"]:
        expected = [{name: output * scale.deviation + scale.mean for name, output in row.items()} for row in expected]
        fold_target_scale(model, scale)
    has_segments = bool(PAIR_ROLES & card["asked"].keys()) and "token_type_ids" in tokenizer.model_input_names
    batch = _batch(inputs, tokenizer.pad_token_id, has_segments)
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


def _run(model: "PreTrainedModel", **inputs: "Tensor") -> "dict[str, Tensor]":
    """Return the outputs of a model by name."""
    import torch

    with torch.no_grad():
        return _outputs(model, model(**inputs, **_settings(model)))


def _settings(model: "PreTrainedModel") -> dict[str, Any]:
    """Return arguments of the forward pass: no cache of keys and values in a decoder."""
    return {"use_cache": False} if model.can_generate() else {}


def _outputs(model: "PreTrainedModel", output: Any) -> "dict[str, Tensor]":
    return {name: output[name] for name in OUTPUTS if name in output}


def _batch(inputs: "list[Tensor]", pad: int, has_segments: bool) -> "dict[str, Tensor]":
    """Pad all inputs on the right to one batch of at least two rows: torch takes a size of 1 for fixed."""
    import torch

    rows = [ids[0] for ids in inputs] * (2 if len(inputs) == 1 else 1)
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(row) for row in rows])
    batch = {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}
    if has_segments:
        batch["token_type_ids"] = torch.zeros_like(ids)
    return batch


def _export(model: "PreTrainedModel", virtual: VirtualTokens | None, batch: "dict[str, Tensor]", out: Path) -> None:
    """Trace the model on a batch, and write its graph."""
    from torch.export import Dim
    from transformers.exporters import OnnxConfig, OnnxExporter

    original: Any = model.forward

    def forward(**inputs: "Tensor") -> "dict[str, Tensor]":
        if virtual:
            inputs = {name: virtual.insert(name, values) for name, values in inputs.items()}
        outputs = _outputs(model, original(**inputs, **_settings(model)))
        if virtual and _is_per_token(model):
            outputs = {name: virtual.remove(output) for name, output in outputs.items()}
        return outputs

    model.forward = forward  # type: ignore[method-assign]
    sizes = {name: {0: Dim.AUTO, 1: Dim.AUTO} for name in batch}
    with _quiet():
        try:
            graph = OnnxExporter().export(model, dict(batch), OnnxConfig(dynamic_shapes=sizes))
        except Exception as error:  # torch raises many types for what it cannot trace
            reason = " ".join(str(error).split())[:300] or type(error).__name__
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
    """Hide the exporter's progress on standard output, and warnings about what it does not use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
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
