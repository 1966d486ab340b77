"""Source and target languages of multilingual translation models.

mBART, NLLB and M2M-100 mark the language of a text with a special token, and select the output language by one.
"""

from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def set_languages(tokenizer: "PreTrainedTokenizerBase", source: str, target: str) -> None:
    """Set the languages with which a tokenizer marks sources and targets.

    Raises:
        RecipeError: The tokenizer needs languages that are not set or that it does not know, or it has no languages.
    """
    if not hasattr(tokenizer, "src_lang"):
        if source or target:
            name, value = ("source", source) if source else ("target", target)
            problem = "is set, but the base's tokenizer has no languages"
            raise RecipeError(f"objective.{name}_language", value, problem, "Remove it, or choose another base")
        return
    for name, code in (("source", source), ("target", target)):
        known = _language_codes(tokenizer)
        if code not in known:
            problem = "is required by this base" if not code else "is not a language of the base's tokenizer"
            codes = f"{', '.join(sorted(known)[:8])} …"
            raise RecipeError(f"objective.{name}_language", code, problem, f"Set it to one of its codes: {codes}")
    tokenizer.src_lang, tokenizer.tgt_lang = source, target


def _language_codes(tokenizer: Any) -> set[str]:
    """Return the language codes of a tokenizer: its special tokens without padding etc., and its table of codes."""
    tokens = {token.strip("_") if token.startswith("__") else token for token in tokenizer.all_special_tokens}
    marks = {tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token, tokenizer.mask_token}
    in_tables = {*getattr(tokenizer, "lang_code_to_token", ()), *getattr(tokenizer, "lang_code_to_id", ())}
    return (tokens | in_tables) - marks


def begin_in_language(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Configure a model to generate in the tokenizer's target language, also after export.

    If targets start with the language token (mBART-50, NLLB, M2M-100), it is forced as the first generated token. If
    targets end with it (mBART), training shifts it to the start of the decoder's input, so generation starts with it.
    """
    if not hasattr(tokenizer, "src_lang"):
        return
    marks = tokenizer(text_target=[""])["input_ids"][0]
    (language,) = (mark for mark in marks if mark != tokenizer.eos_token_id)
    settings: Any = model.generation_config
    if marks[0] == language:
        settings.forced_bos_token_id = language
    else:
        settings.decoder_start_token_id = model.config.decoder_start_token_id = language
