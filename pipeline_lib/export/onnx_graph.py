"""Trace a model and write it as an ONNX graph, by transformers' exporter."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

OUTPUTS = ("logits", "start_logits", "end_logits")
"""The outputs of a model that its graph has, as far as the model has them."""


class VirtualTokens(NamedTuple):
    """The virtual tokens of a learned prompt, which the graph inserts into its inputs and removes from its outputs."""

    ids: list[int]
    begin: int
    """Position of the first one: 1 if inputs begin with a special token, else 0."""

    def insert(self, name: str, values: "Tensor") -> "Tensor":
        """Insert them into an input [rows, tokens]; they are attended to, and belong to the first text."""
        import torch

        count = len(self.ids)
        added = {"input_ids": self.ids, "attention_mask": [1] * count, "token_type_ids": [0] * count}[name]
        added_rows = torch.tensor(added).expand(values.shape[0], -1)
        return torch.cat([values[:, : self.begin], added_rows, values[:, self.begin :]], 1)

    def remove(self, output: "Tensor") -> "Tensor":
        """Remove their places from an output [rows, tokens, ...]."""
        import torch

        return torch.cat([output[:, : self.begin], output[:, self.begin + len(self.ids) :]], 1)


def outputs_by_name(model: "PreTrainedModel", inputs: "dict[str, Tensor]", forward: Any = None) -> "dict[str, Tensor]":
    """Run a model without a cache of keys and values, and return its outputs by name.

    `forward` replaces the model's own forward pass.
    """
    settings = {"use_cache": False} if model.can_generate() else {}
    output = (forward or model)(**inputs, **settings)
    return {name: output[name] for name in OUTPUTS if name in output}


def is_per_token(model: "PreTrainedModel") -> bool:
    """Return whether a model has an output for each token."""
    return not type(model).__name__.endswith("ForSequenceClassification")


def trace(model: "PreTrainedModel", virtual: VirtualTokens | None, batch: "dict[str, Tensor]", out: Path) -> None:
    """Trace the model on a batch with several rows and tokens, and write its graph.

    Raises:
        RecipeError: torch cannot trace it.
    """
    from torch.export import Dim
    from transformers.exporters import OnnxConfig, OnnxExporter

    original: Any = model.forward

    def forward(**inputs: "Tensor") -> "dict[str, Tensor]":
        if virtual:
            inputs = {name: virtual.insert(name, values) for name, values in inputs.items()}
        outputs = outputs_by_name(model, inputs, original)
        if virtual and is_per_token(model):
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
