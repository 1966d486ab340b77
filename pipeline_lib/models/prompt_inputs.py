"""Insert the virtual tokens of learned prompts into the examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_lib.data.examples import Examples
from pipeline_lib.errors import RecipeError
from pipeline_lib.strategies import Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.objectives import Objective


def insert_prompt_tokens(
    encoded: Examples, strategies: Sequence[Strategy], tokenizer: "PreTrainedTokenizerBase"
) -> Examples:
    """Insert the strategies' virtual tokens into the inputs, inside their special tokens.

    Raises:
        RecipeError: An input becomes longer than the model can read.
    """
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    last = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    for strategy in strategies:
        if prompt := strategy.prompt():
            encoded = encoded.insert_prompt(*prompt, first=first, last=last)
            _refuse_too_long(encoded, prompt.before + prompt.after, tokenizer.model_max_length)
    return encoded


def _refuse_too_long(encoded: Examples, added: int, limit: int) -> None:
    longest = int(encoded.ids.lengths.max(initial=0))
    if longest > limit:
        raise RecipeError(
            "objective.max_length",
            longest - added,
            f"leaves no room for {added} virtual tokens: the model can only read {limit} tokens",
            f"Set it to {limit - added} or less",
        )


def refuse_unread(objective: "Objective", strategies: Sequence[Strategy], model: "PreTrainedModel") -> None:
    """Raise RecipeError for virtual tokens after the text in a decoder trained on every token, where none sees them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING as DECODERS
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING as ENCODERS

    decoder = type(model.config) in DECODERS and type(model.config) not in ENCODERS
    for index, strategy in enumerate(strategies):
        if decoder and objective.per_token and (prompt := strategy.prompt()) and prompt.after:
            problem = f"has no effect: {model.config.model_type} reads from left to right, so no token sees the prompt"
            raise RecipeError(f"strategies.{index}.position", "after", problem, "Set it to before")
