"""Compare what an exported model computes with what the trained model computes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_lib.errors import RecipeError
from pipeline_lib.strategies import Strategy

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERIFIED_ROWS = 8
"""Test rows on which an export is verified."""
SAMPLE = "The quick brown fox jumps over the lazy dog, 42 times."
ATOL, RTOL = 1e-4, 1e-3
"""Accepted differences of outputs in fp32, of which `ATOL` is relative to the largest output: two orders of the same
additions differ by more than 1e-4 where a norm enlarges a small state."""


def verification_inputs(
    tokenizer: "PreTrainedTokenizerBase", rows: "pyarrow.Table | None", most: int = VERIFIED_ROWS
) -> "list[Tensor]":
    """Token ids of the first rows, each [1, tokens]: a batch would need padding, which not every head supports."""
    import torch

    encoded = [] if rows is None else first_windows(rows, "input_ids", most)
    return [torch.tensor([ids]) for ids in encoded] or [tokenizer(SAMPLE, return_tensors="pt")["input_ids"]]


def first_windows(rows: "pyarrow.Table", column: str, most: int = VERIFIED_ROWS) -> list[list[int]]:
    """Return an encoded column of the first rows: of rows that were read in several windows, the first one."""
    first = []
    for ids in rows[column].slice(0, most).to_pylist():
        if ids and isinstance(ids[0], list):  # several windows
            ids = ids[0]
        if ids:
            first.append(ids)
    return first


def with_virtual_tokens(
    inputs: "list[Tensor]", strategies: Sequence[Strategy], tokenizer: "PreTrainedTokenizerBase"
) -> "list[Tensor]":
    """Insert the virtual tokens of the strategies into each input [1, tokens]."""
    import numpy as np
    import torch

    from pipeline_lib.data.examples import Examples, Ragged
    from pipeline_lib.models.prompt_inputs import insert_prompt_tokens

    examples = Examples(Ragged.from_lists([ids[0].tolist() for ids in inputs]), np.zeros(len(inputs)))
    ids = insert_prompt_tokens(examples, strategies, tokenizer).ids
    return [torch.from_numpy(ids[index].astype(np.int64))[None] for index in range(len(inputs))]


def model_outputs(
    model: "PreTrainedModel", inputs: "list[Tensor]", decoder_inputs: "list[Tensor] | None" = None
) -> "list[Tensor]":
    """Return the model's first output for each input.

    A decoder that needs ids of its own gets `decoder_inputs`, by default the inputs.
    """
    import torch

    outputs = []
    for ids, decoder_ids in zip(inputs, decoder_inputs or inputs, strict=True):
        given = {"decoder_input_ids": decoder_ids.to(model.device)} if _needs_decoder_ids(model) else {}
        with torch.no_grad():
            outputs.append(model(input_ids=ids.to(model.device), **given, return_dict=False)[0])
    return outputs


def _needs_decoder_ids(model: "PreTrainedModel") -> bool:
    """Whether the model generates text: classifiers of the same families derive the decoder's ids themselves."""
    return bool(model.config.is_encoder_decoder and model.can_generate())


def require_equal(outputs: "Sequence[Tensor]", expected: "Sequence[Tensor]", format: str, reader: str) -> None:
    """Raise RecipeError if an export computes other outputs than the trained model in fp32."""
    differences = []
    size = max(1.0, *(float(right.abs().max()) for right in expected))  # regression outputs have the data's unit
    for output, right in zip(outputs, expected, strict=True):
        if output.shape != right.shape:
            differences.append(float("inf"))
        elif not output.isclose(right, atol=ATOL * size, rtol=RTOL).all():
            differences.append(float((output - right).abs().max()))
    if differences:
        problem = f"read back with {reader}, its outputs differ from the trained model's by {max(differences):.2g}"
        raise RecipeError("--format", format, problem, "Choose another format, and please report this as a bug")
