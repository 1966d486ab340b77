"""The languages of models that translate between many: which one a text is in, and which one is to be written.

mBART, NLLB and M2M-100 read the language as a token beside the text, and are told by one which language to write.
"""

from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def set_languages(tokenizer: "PreTrainedTokenizerBase", source: str, target: str) -> None:
    """Have a tokenizer mark sources and targets with their languages.

    Raises RecipeError where it needs them and they are not named, or where it does not know them.
    """
    if not hasattr(tokenizer, "src_lang"):
        if source or target:
            name, value = ("source", source) if source else ("target", target)
            problem = "is named, and the base's tokenizer marks no languages"
            raise RecipeError(f"objective.{name}_language", value, problem, "Remove it, or choose another base")
        return
    for name, code in (("source", source), ("target", target)):
        known = _known(tokenizer)
        if code not in known:
            problem = "is needed by this base" if not code else "is not a language of the base's tokenizer"
            shown = f"{', '.join(sorted(known)[:8])} …"
            raise RecipeError(f"objective.{name}_language", code, problem, f"Set it to one of its codes: {shown}")
    tokenizer.src_lang, tokenizer.tgt_lang = source, target


def _known(tokenizer: Any) -> set[str]:
    """The codes of a tokenizer's languages: those that have a token of their own, named by it or by a table."""
    tokens = {token.strip("_") if token.startswith("__") else token for token in tokenizer.all_special_tokens}
    marks = {tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token, tokenizer.mask_token}
    return (
        tokens | {*getattr(tokenizer, "lang_code_to_token", ()), *getattr(tokenizer, "lang_code_to_id", ())}
    ) - marks


def begin_in_language(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Have a model write in the tokenizer's target language, also where it is exported.

    The language's token begins a target (mBART-50, NLLB, M2M-100): then it is forced to be the first that is written.
    Where it ends a target (mBART), training shifts it to the decoder's beginning, and so it begins what is written.
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
