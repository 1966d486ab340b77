"""Try a tokenizer on a short text: its own rules can multiply the text, or take hours to match it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.trial import LIMITS, takes_too_much

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT = f"The quick brown fox jumps over 13 lazy dogs.\n{'a' * 64}!{' ' * 64}x{'1' * 64}.{'-' * 64}_"
"""Every letter, and the repetitions at which patterns that search backwards take longest."""
MOST_TOKENS = 100_000
"""Maximum tokens of that text; the bytes of all characters would be 310."""


def refuse_endless(tokenizer: "PreTrainedTokenizerBase", base: Path) -> None:
    """Raise RecipeError if a short text takes a tokenizer too much time or memory, or makes it fail.

    Args:
        tokenizer: The tokenizer.
        base: Its folder.
    """

    def encode() -> None:
        ids: Any = tokenizer(TEXT, verbose=False)["input_ids"]
        if len(ids) > MOST_TOKENS:
            raise MemoryError

    if takes_too_much(encode):
        problem = f"has a tokenizer that {LIMITS} for a text of {len(TEXT)} characters"
        raise RecipeError("model.base", str(base), problem, "Check the normalizer and pre_tokenizer of tokenizer.json")
