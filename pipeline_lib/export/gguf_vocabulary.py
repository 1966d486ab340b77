"""Describe a tokenizer as a GGUF file does: its tokens, and how llama.cpp joins them."""

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KNOWN_SPLITS = ("llama-bpe", "qwen2", "tekken", "gpt-4o")
"""llama.cpp's names of regular expressions that split a text before bytes are joined."""
NEVER = -1e6
"""Score of tokens that no merge makes: lower than any rank."""


class GgufVocabulary(NamedTuple):
    """The tokens by id and, for either way of joining them, scores or merges."""

    model: str
    """llama.cpp's name of the kind: `llama` joins characters by score (SentencePiece), `gpt2` bytes by merges."""
    tokens: list[str]
    types: list[int]
    scores: list[float] | None = None
    adds_space: bool = False
    """Whether a text gets a space in front; only of `llama`."""
    merges: list[str] | None = None
    split: str = "default"
    """llama.cpp's name of the regular expression that splits a text; only of `gpt2`."""


def vocabulary_of(tokenizer: "PreTrainedTokenizerBase", size: int) -> GgufVocabulary:
    """Return the vocabulary of a tokenizer, filled up to the size of the model's embeddings.

    Raises:
        RecipeError: llama.cpp has no tokenizer of this kind.
    """
    described: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    model = described["model"]
    tokens, types = _tokens(described, size)
    if model["type"] == "BPE" and model["byte_fallback"]:
        pairs = [tuple(merge) for merge in model["merges"]]
        adds_space = _adds_space(described["normalizer"], described["pre_tokenizer"])
        return GgufVocabulary("llama", tokens, types, _scores(tokens, types, pairs), adds_space)
    split = _pre_tokenizer_name(described["pre_tokenizer"]) if model["type"] == "BPE" else None
    if split is None or (described["normalizer"] or {}).get("type", "NFC") != "NFC":
        raise unknown_tokenizer(f"a {model['type']} tokenizer with this way of splitting texts")
    return GgufVocabulary("gpt2", tokens, types, merges=[" ".join(merge) for merge in model["merges"]], split=split)


def unknown_tokenizer(what: str) -> RecipeError:
    """Return the error for a tokenizer that a GGUF file cannot describe."""
    problem = f"a GGUF file cannot describe {what}, so llama.cpp would read other tokens"
    return RecipeError("--format", "gguf", problem, "Export the model with --format huggingface")


def _tokens(described: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Return tokens and their types by id."""
    from gguf import TokenType

    model, added = described["model"], described["added_tokens"]
    by_id = {index: token for token, index in model["vocab"].items()} | {t["id"]: t["content"] for t in added}
    if max(by_id) >= size:
        raise unknown_tokenizer(f"{max(by_id) + 1} tokens, of which the model embeds {size}")
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(size)]
    types = [TokenType.NORMAL if index in by_id else TokenType.UNUSED for index in range(size)]
    for token in added:
        types[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    if model.get("byte_fallback"):
        for index, token in enumerate(tokens):
            if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
                types[index] = TokenType.BYTE
        if model["unk_token"] is not None:
            types[tokens.index(model["unk_token"])] = TokenType.UNKNOWN
    return tokens, [int(kind) for kind in types]


def _scores(tokens: list[str], types: list[int], pairs: list[tuple[str, ...]]) -> list[float]:
    """Return a score for each token, by which llama.cpp joins the same pairs in the same order as the merges.

    llama.cpp joins any two tokens that make a third one, the best score first; so each such pair must be a merge, and
    those that make the same token must follow one another.
    """
    from gguf import TokenType

    # every pair of tokens that llama.cpp would join: the two sides of each cut through a normal token
    known = set(tokens)
    joinable: set[tuple[str, ...]] = set()
    for token, kind in zip(tokens, types):
        if kind == TokenType.NORMAL:
            cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
            joinable.update(pair for pair in cuts if known.issuperset(pair))
    # the merges by rank; those that make the same token share its score, so they must be neighbours
    merged = [token for token, _ in groupby(left + right for left, right in pairs)]
    if joinable != set(pairs) or len(merged) != len(set(merged)):
        raise unknown_tokenizer("merges that do not follow from the scores of their tokens")
    scores = {token: -float(rank) for rank, token in enumerate(merged)}
    return [scores.get(token, NEVER if kind == TokenType.NORMAL else 0.0) for token, kind in zip(tokens, types)]


def _adds_space(normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None) -> bool:
    """Return whether a space is put in front of a text, as SentencePiece does."""
    steps = [*_steps(normalizer, "normalizers"), *_steps(pre_tokenizer, "pretokenizers")]
    return any(step["type"] == "Prepend" or step.get("prepend_scheme", "never") != "never" for step in steps)


def _pre_tokenizer_name(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """Return llama.cpp's name of the way a text is split before its bytes are joined; None if it has none."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    names = {GGUF_PRE_TOKENIZER_SPLITS[name]: name for name in KNOWN_SPLITS}
    match _steps(pre_tokenizer, "pretokenizers"):
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return "gpt-2"
        case [{"type": "Split", "pattern": {"Regex": pattern}}, {"type": "ByteLevel", "use_regex": False}]:
            return names.get(pattern)
    return None


def _steps(step: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """Return the parts of a normalizer or a pre-tokenizer, which may be a sequence."""
    if step is None:
        return []
    return step[inner] if step["type"] == "Sequence" else [step]
