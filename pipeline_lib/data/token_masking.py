"""What is hidden from a model that learns a language by filling gaps."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import IGNORED

if TYPE_CHECKING:
    from torch import Generator, Tensor

SPAN = 3
"""Mean length of a corrupted span (Raffel et al. 2020, section 3.3.4)."""


def mask_tokens(
    ids: "Tensor", targets: "Tensor", share: float, mask: int, vocabulary: int, generator: "Generator"
) -> "tuple[Tensor, Tensor]":
    """Ids [rows, length] with a share of the learned tokens hidden, and targets for these alone.

    Of the hidden ones 8 in 10 become `mask`, 1 in 10 a random token, 1 in 10 stays (Devlin et al. 2019, section 3.1).
    """
    import torch

    chance, how = torch.rand((2, *ids.shape), generator=generator, device=ids.device)
    hidden = (chance < share) & (targets >= 0)
    other = torch.randint(vocabulary, ids.shape, generator=generator, device=ids.device)
    seen = torch.where(how < 0.8, mask, torch.where(how < 0.9, other, ids))
    return torch.where(hidden, seen, ids), torch.where(hidden, targets, IGNORED)


def corrupt_spans(
    ids: np.ndarray, share: float, sentinels: list[int], end: int, random: np.random.Generator
) -> tuple[list[int], list[int]]:
    """A text [length] with spans replaced by one sentinel each, and what stood there after the same sentinels.

    Raffel et al. 2020, figure 2; `share` of the tokens lie in spans of three on average.
    """
    hidden = max(1, round(len(ids) * share))
    spans = max(1, min(round(hidden / SPAN), len(ids) - hidden, len(sentinels)))
    kept, gone = _parts(len(ids) - hidden, spans, random), _parts(hidden, spans, random)
    source: list[int] = []
    target: list[int] = []
    place = 0
    for sentinel, before, length in zip(sentinels, kept, gone, strict=False):
        source += [*ids[place : place + before].tolist(), sentinel]
        target += [sentinel, *ids[place + before : place + before + length].tolist()]
        place += before + length
    return [*source, end], [*target, end]


def _parts(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """A number cut into random parts of at least one each; what is less than `parts` gives parts of nothing."""
    if total < parts:
        return np.array([total] + [0] * (parts - 1))
    cuts = np.sort(random.choice(total - 1, parts - 1, replace=False)) + 1 if parts > 1 else np.array([], int)
    return np.diff([0, *cuts, total])
