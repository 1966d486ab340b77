"""Corrupt texts for language-model training: token masking and span corruption."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import IGNORED

if TYPE_CHECKING:
    from torch import Generator, Tensor

SPAN = 3
"""Mean length of a corrupted span in tokens (Raffel et al. 2020, section 3.3.4)."""


def mask_tokens(
    ids: "Tensor", targets: "Tensor", share: float, mask: int, vocabulary: int, generator: "Generator"
) -> "tuple[Tensor, Tensor]":
    """Mask a share of the learned tokens.

    Of the selected tokens 80% become `mask`, 10% a random token and 10% stay unchanged (Devlin et al. 2019, section
    3.1).

    Args:
        ids: [rows, length] token ids.
        targets: [rows, length] targets; tokens with a negative target are never selected.
        share: Probability that a token is selected.
        mask: Id of the mask token.
        vocabulary: Number of tokens to draw random ones from.
        generator: Source of randomness, on the device of `ids`.

    Returns:
        The masked ids, and targets that are IGNORED for all tokens that were not selected.
    """
    import torch

    # two independent numbers for each token: whether it is selected, and what it is then replaced by
    chance, replacement = torch.rand((2, *ids.shape), generator=generator, device=ids.device)
    selected = (chance < share) & (targets >= 0)
    random_ids = torch.randint(vocabulary, ids.shape, generator=generator, device=ids.device)
    random_or_same = torch.where(replacement < 0.9, random_ids, ids)  # of the last fifth, half each
    replaced = torch.where(replacement < 0.8, mask, random_or_same)
    return torch.where(selected, replaced, ids), torch.where(selected, targets, IGNORED)


def corrupt_spans(
    ids: np.ndarray, share: float, sentinels: list[int], end: int, random: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Replace random spans by sentinels, and return the text and the target (Raffel et al. 2020, figure 2).

    The text has one sentinel in place of each span; the target lists each sentinel followed by its span. `share` of
    the tokens are in spans, which have SPAN tokens on average; both texts end with `end`.
    """
    removed_count = max(1, round(len(ids) * share))
    spans = max(1, min(round(removed_count / SPAN), len(ids) - removed_count, len(sentinels)))
    kept_lengths = _parts(len(ids) - removed_count, spans, random)
    span_lengths = _parts(removed_count, spans, random)
    source: list[int] = []
    target: list[int] = []
    start = 0
    for sentinel, before, length in zip(sentinels, kept_lengths, span_lengths, strict=False):
        source += [*ids[start : start + before].tolist(), sentinel]
        target += [sentinel, *ids[start + before : start + before + length].tolist()]
        start += before + length
    return [*source, end], [*target, end]


def _parts(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """Split a number into random parts of at least one; if it is smaller than `parts`, the other parts are zero."""
    if total < parts:
        return np.array([total] + [0] * (parts - 1))
    # `parts - 1` distinct cuts among the `total - 1` gaps between neighbours, so that no part is empty
    cuts = np.sort(random.choice(total - 1, parts - 1, replace=False)) + 1 if parts > 1 else np.array([], int)
    return np.diff([0, *cuts, total])
