"""Whether learned prompts act in every block of a model."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PROMPT_IN_BLOCK = re.compile(r"\.\d+\.prompt$")
"""The names of virtual tokens' vectors in blocks."""


def has_deep_prompts(model: "nn.Module") -> bool:
    """Whether the model's blocks have virtual tokens of their own, so that a decoder's text begins with some too."""
    return any(PROMPT_IN_BLOCK.search(name) for name, _ in model.named_parameters())
