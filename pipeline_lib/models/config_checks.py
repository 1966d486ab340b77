"""Refuse bases whose configuration cannot be trained from, and weights in formats that would be converted silently."""

from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION_FLAGS = {"sdpa": "_supports_sdpa", "flash_attention_2": "_supports_flash_attn"}
"""Implementation of attention -> the attribute of transformers' classes that is true if they support it."""


def refuse_quantized_base(base: str, config: Any, again: bool) -> None:
    """Raise RecipeError for a base whose files are quantised already.

    Updates cannot be merged into files of bitsandbytes, and no files can be quantised `again`.
    """
    method = quantization_method(config)
    if method == "bitsandbytes" or (method and again):
        hint = "Choose the base in its original precision, and set model.quantization"
        raise RecipeError("model.base", base, f"has files that are quantised already ({method})", hint)


def quantization_method(config: Any) -> str | None:
    """Return how a base's files are quantised; None if they are not."""
    method: str | None = (config.to_dict().get("quantization_config") or {}).get("quant_method")
    return method


def refuse_other_formats(base: str, formats: dict[str, str]) -> None:
    """Raise RecipeError if weights that are not floating-point numbers were read into parameters."""
    if formats:
        name = min(formats)
        problem = f"has {len(formats)} weights that are not floating-point numbers, such as {name} ({formats[name]})"
        raise RecipeError("model.base", base, problem, "Save the weights in fp32, bf16 or fp16")


def refuse_no_layers(base: str, config: Any) -> None:
    """Raise RecipeError if a configuration has no layers, so that none of those in the weights would be loaded."""
    for name in ("num_hidden_layers", "encoder_layers", "decoder_layers", "num_decoder_layers"):
        count = getattr(config, name, None)
        if isinstance(count, int) and count < 1:
            problem = f"has a config.json without layers ({name} is {count})"
            raise RecipeError("model.base", base, problem, "Use the config.json saved with the weights")


def refuse_token_ids(base: str, model: "PreTrainedModel") -> None:
    """Raise RecipeError if generation_config.json names a token by something else than its number."""
    settings: Any = getattr(model, "generation_config", None)
    for name, value in (settings.to_diff_dict() if settings else {}).items():
        ids = value if isinstance(value, list) else [value]
        if name.endswith("token_id") and not all(isinstance(number, int) for number in ids):
            problem = f"has a generation_config.json with {value!r} as {name}"
            raise RecipeError("model.base", base, problem, "Set it to a token id or a list of ids, or remove it")


def refuse_attention(model_class: Any, family: str, attention: str | None) -> None:
    """Raise RecipeError if a family does not have the implementation of attention that the recipe names."""
    flag = ATTENTION_FLAGS.get(attention or "")
    if flag and not getattr(model_class, flag, False):
        problem = f"is not supported by the family {family}"
        raise RecipeError("execution.attention", attention, problem, "Choose auto or eager")
