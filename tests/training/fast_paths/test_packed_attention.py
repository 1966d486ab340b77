"""Attention over packed rows takes each row by itself. `pytest tests/training/fast_paths`"""

import pytest
import torch
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    chunked_causal_mask_function,
    packed_sequence_mask_function,
    sdpa_mask,
    sliding_window_causal_mask_function,
)

from pipeline_lib.training.fast_paths.attention import attend, make_mask
from pipeline_lib.training.fast_paths.packed_attention import packed_rows

LENGTHS = (3, 1, 7, 4)
TOKENS = sum(LENGTHS)
PACKED = packed_sequence_mask_function(torch.repeat_interleave(torch.arange(4), torch.tensor(LENGTHS))[None])
MASKS = {
    "causal": causal_mask_function,
    "window": sliding_window_causal_mask_function(3),
    "chunks": chunked_causal_mask_function(5, torch.zeros(1, dtype=int)),
}


def module():
    module = torch.nn.Module()
    module.is_causal = True
    return module


@pytest.mark.parametrize("dropout", [0.0, 1e-9])
@pytest.mark.parametrize("kind", MASKS)
def test_outputs_and_gradients_are_those_of_one_mask_over_all_tokens(kind, dropout):
    """A dropout of next to nothing takes the path with dropout."""
    torch.manual_seed(0)
    given = [torch.randn(1, 2, TOKENS, 8, requires_grad=True) for _ in range(3)]
    options = {"mask_function": and_masks(PACKED, MASKS[kind]), "allow_is_causal_skip": False}
    mask = make_mask(1, TOKENS, TOKENS, **options)
    rows = packed_rows(mask)
    assert rows.is_causal == (kind != "window")  # a chunk is a row
    assert mask.shape == (rows.rows, 1, rows.longest, rows.longest)
    assert rows.longest == (5 if kind == "chunks" else 7)
    ours, _ = attend(module(), *given, mask, dropout=dropout)
    theirs, _ = attend(module(), *given, sdpa_mask(1, TOKENS, TOKENS, **options))
    torch.testing.assert_close(ours, theirs)
    towards = torch.randn_like(ours)
    for one, other in zip(*(torch.autograd.grad(out, given, towards) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other)


def test_other_masks_are_transformers_own():
    options = {"mask_function": and_masks(PACKED, causal_mask_function), "allow_is_causal_skip": False}
    assert make_mask(1, TOKENS, TOKENS, mask_function=causal_mask_function) is None
    alone = {"mask_function": causal_mask_function, "allow_is_causal_skip": False}
    assert torch.equal(make_mask(1, 4, 4, **alone), sdpa_mask(1, 4, 4, **alone))
    padding = torch.ones(2, TOKENS, dtype=torch.bool)
    padding[1, 5:] = False
    padded = {"mask_function": causal_mask_function, "attention_mask": padding}
    assert torch.equal(make_mask(2, TOKENS, TOKENS, **padded), sdpa_mask(2, TOKENS, TOKENS, **padded))
    assert packed_rows(make_mask(1, TOKENS, TOKENS, use_vmap=True, **options)) is None
