"""The number of tokens a model can read."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

AFTER_PADDING = {
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
"""Families that number positions from the padding token's id + 1, so the first rows of the table are never used."""


def position_limit(config: "PreTrainedConfig") -> int | None:
    """Return the number of positions in a model's configuration; None if it sets no limit."""
    text: Any = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if positions is None:
        positions = getattr(text, "max_encoder_position_embeddings", None)  # LED
    # DeBERTa without position_biased_input uses relative positions only, so its table sets no limit.
    if not isinstance(positions, int) or positions < 1 or getattr(text, "position_biased_input", True) is False:
        return None
    if text.model_type in AFTER_PADDING:
        positions -= (text.pad_token_id if text.pad_token_id is not None else 1) + 1
    return positions
