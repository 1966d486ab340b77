"""What a chat template writes, and the tokens that a tokenizer adds to its vocabulary for it."""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline_lib.util.trial import LIMITS, takes_too_much

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST, FACTOR = 1_000_000, 10
"""Maximum characters of a dialogue's text; a longer dialogue may have this many times its own."""
GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""The tags that mark what the model writes; transformers adds them to Jinja's own."""


def render(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Mapping[str, Any]], tools: Any, asked: bool = False
) -> str:
    """The template's text; `asked`: with its generation prompt."""

    def apply() -> str:
        given = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(given, tools=tools, tokenize=False, add_generation_prompt=asked))

    def is_too_long(text: str) -> bool:
        return len(text) > LONGEST and len(text) > FACTOR * len(repr((messages, tools)))

    def attempt() -> None:
        if is_too_long(apply()):
            raise MemoryError

    _refuse_endless(str(tokenizer.chat_template), attempt)
    try:
        text = apply()
    except Exception as error:  # a template raises its own errors, and whatever its expressions happen to break
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the chat template refuses the dialogue ({reason})") from None
    if is_too_long(text):
        raise ValueError(f"the chat template makes {len(text):,} characters of a short dialogue")
    return text


_endless: dict[str, bool] = {}
_trial = threading.Lock()


def _refuse_endless(template: str, attempt: Callable[[], None]) -> None:
    """Raise ValueError if a template takes too long for the dialogue that it is used for first in this process."""
    with _trial:
        if template not in _endless:
            _endless[template] = takes_too_much(attempt)
    if _endless[template]:
        raise ValueError(f"the chat template {LIMITS} for a dialogue, or makes a text of millions of characters")


def render_or_none(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], tools: Any, asked: bool = False
) -> str | None:
    """A rendering, or None where the template refuses these messages by themselves."""
    try:
        return render(tokenizer, messages, tools, asked)
    except ValueError:
        return None


def end_of_added_token(tokenizer: "PreTrainedTokenizerBase", text: str, place: int) -> int | None:
    """Behind the added token that follows a place in a text, but for white space; None where none does."""
    found = re.compile(rf"\s*(?:{added_tokens(tokenizer)})").match(text, place)
    return found.end() if found else None


def added_tokens(tokenizer: "PreTrainedTokenizerBase", special: bool = False) -> str:
    """The tokenizer's added tokens as a pattern, the longest first; `special`: those that decoding can leave out."""
    if special:
        known = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        known |= set(tokenizer.all_special_tokens)
    else:
        known = {*tokenizer.get_added_vocab(), tokenizer.eos_token or ""}
    return _pattern(frozenset(token for token in known if token.strip()))


@lru_cache(maxsize=16)
def _pattern(tokens: frozenset[str]) -> str:
    return "|".join(map(re.escape, sorted(tokens, key=lambda token: (-len(token), token)))) or "(?!)"
