"""Encode texts as token ids; faster than calling the tokenizer, as character offsets are not computed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def token_ids(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    special: bool = True,
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the token ids of each text or pair of texts, and which of the two each id belongs to (0 or 1).

    Longer inputs are truncated at the end to `limit` ids, for pairs the longer text first. `special` adds special
    tokens.
    """
    both: list[Any] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    inner: Any = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:  # written in Python
        cut = {"truncation": True, "max_length": limit} if limit else {}
        out = tokenizer(
            list(texts),
            list(pairs) if pairs is not None else None,
            add_special_tokens=special,
            return_token_type_ids=True,
            verbose=False,
            **cut,
        )
        return out["input_ids"], out["token_type_ids"]
    inner.no_padding()
    if limit:
        inner.enable_truncation(limit, strategy="longest_first", direction=tokenizer.truncation_side)
    else:
        inner.no_truncation()
    found = inner.encode_batch_fast(both, add_special_tokens=special)
    return [encoding.ids for encoding in found], [encoding.type_ids for encoding in found]
