"""Detect learned prompts that act in every block of a model."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PROMPT_IN_BLOCK = re.compile(r"\.\d+\.prompt$")
"""Matches the parameter names of virtual tokens inside blocks."""


def has_deep_prompts(model: "nn.Module") -> bool:
    """Return whether the blocks have their own virtual tokens, so that a decoder's text also starts with some."""
    return any(PROMPT_IN_BLOCK.search(name) for name, _ in model.named_parameters())
