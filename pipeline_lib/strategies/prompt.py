"""Train virtual tokens that are read together with the text."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import require_stacks
from pipeline_lib.models.limits import position_limit
from pipeline_lib.strategies.base import AddedWeights, ParameterInfo, Prompt
from pipeline_lib.strategies.prompt_tokens import PromptTokens, hidden_states_of_prompt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COMMON = 5000
"""Tokens with the lowest ids, which are the most frequent ones, to draw a prompt's first vectors from (Lester 2021)."""


class SoftPrompt(AddedWeights):
    """The model reads [p_1 ... p_n; x_1 ... x_m], where the vectors p are learned and x are the text's embeddings:

    prompt tuning (Lester et al. 2021, section 2), P-tuning (Liu et al. 2021). Depth `all` has such vectors at every
    layer: [x_i, _] = Layer_i([x_(i-1), p_(i-1)]), what a layer makes of them being dropped (Jia et al. 2022, VPT-deep,
    section 3.2), in an encoder and its decoder alike. Prefix-tuning (Li and Liang 2021) and P-tuning v2 (Liu et al.
    2022) have them so too, but for learning keys and values instead. The deeper vectors start as what the layers make
    of the first ones, as prefix-tuning found best (section 7.4): so each layer reads what it is used to.
    """

    kind: Literal["prompt"]
    length: Annotated[int, Field(ge=1, le=200)] = 20
    """How many virtual tokens."""
    position: Literal["before", "after"] = "before"
    """Where they stand: before or after the text, inside its special tokens."""
    depth: Literal["input", "all"] = "input"
    """Learn their embeddings, or their vectors at every layer."""
    init: Literal["random", "text", "vocabulary"] = "vocabulary"
    """How they start: at random with the embeddings' spread, as `init_text`, or as tokens drawn from the frequent."""
    init_text: str = ""
    """The text that they start as, repeated or cut to their length."""
    rate: PositiveFloat = 400.0
    """Their learning rate and the head's, relative to the recipe's: few vectors move far, weights little each."""

    @model_validator(mode="after")
    def _has_a_text(self) -> Self:
        if (self.init == "text") != bool(self.init_text.strip()):
            raise ValueError("init: text and init_text go together. Give both or neither")
        return self

    def prompt(self) -> Prompt:
        """Before or after the text."""
        before, after = (self.length, 0) if self.position == "before" else (0, self.length)
        return Prompt(before, after, deep=self.depth == "all")

    def is_trainable(self, place: ParameterInfo) -> bool:
        """The learned vectors."""
        return place.name.endswith(".prompt")

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """`prompt` becomes a parameter of the table of embeddings, and of each block but the first one."""
        from torch import nn

        self._refuse_too_long(model)
        found, vectors = require_stacks(model, self.kind), None
        virtual = [PromptTokens() for _ in found]
        for stack, tokens in zip(found, virtual):
            if vectors is None or self.depth == "all":  # else a decoder reads the encoder's, if it reads any
                vectors = nn.Parameter(self._first(stack.embeddings, tokenizer))
            stack.embeddings.register_parameter("prompt", vectors)
            stack.embeddings.register_forward_pre_hook(tokens.hide)
            stack.embeddings.register_forward_hook(tokens.show)
        if self.depth == "all":
            read = hidden_states_of_prompt(model, found, self.length)
            self._refuse_other_layout(model, read.values())
            for stack, tokens in zip(found, virtual):
                for block in stack.blocks[1:]:  # the first one reads the embeddings'
                    block.module.register_parameter("prompt", nn.Parameter(read[block.module]))
                    block.module.register_forward_pre_hook(tokens.replace, with_kwargs=True)

    def _refuse_other_layout(self, model: "PreTrainedModel", read: "Iterable[Tensor]") -> None:
        if any(len(vectors) != self.length for vectors in read):
            family = model.config.model_type
            problem = f"cannot act in the blocks of the family {family}: they read [tokens, rows, width]"
            raise RecipeError("strategies", self.kind, problem, "Set depth to input")

    def _refuse_too_long(self, model: "PreTrainedModel") -> None:
        limit = position_limit(model.config)
        if limit is not None and self.length >= limit:
            problem = f"is {self.length} virtual tokens long, and the model reads {limit} tokens"
            raise RecipeError("strategies", self.kind, problem, "Set a smaller length")

    def _first(self, embeddings: "nn.Module", tokenizer: "PreTrainedTokenizerBase") -> "Tensor":
        """[length, width] embeddings to start with."""
        import torch

        with torch.no_grad():
            common = embeddings(torch.tensor(_common(tokenizer)))
            if self.init == "random":
                return torch.randn(self.length, common.shape[-1]) * common.std()
            if self.init == "vocabulary":
                return common[torch.randint(len(common), (self.length,))]
            text = tokenizer(self.init_text, add_special_tokens=False)["input_ids"]
            return embeddings(torch.tensor([text[index % len(text)] for index in range(self.length)]))


def _common(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Frequent tokens, without special ones and BERT's places left free."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(COMMON, len(tokenizer)))))
    special = set(tokenizer.all_special_tokens)
    return [index for index, token in enumerate(tokens) if token not in special and not token.startswith("[unused")]
