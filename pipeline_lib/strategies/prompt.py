"""Train virtual tokens that the model reads together with the text."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import require_stacks
from pipeline_lib.models.limits import position_limit
from pipeline_lib.strategies.base import AddedWeights, ParameterInfo, Prompt
from pipeline_lib.strategies.prompt_tokens import PromptTokens, hidden_states_of_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from peft import PromptTuningConfig
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.models.blocks import Stack

COMMON = 5000
"""Initial vectors are sampled from this many tokens with the lowest ids, usually the most frequent (Lester 2021)."""


class SoftPrompt(AddedWeights):
    """Prompt tuning: the model reads [p_1 ... p_n; x_1 ... x_m] with learned vectors p and the text's embeddings x.

    Lester et al. 2021, section 2; P-tuning (Liu et al. 2021). Depth `all` learns vectors at every layer, [x_i, _] =
    Layer_i([x_(i-1), p_(i-1)]), and drops the layer's outputs for them (Jia et al. 2022, VPT-deep, section 3.2), both
    in an encoder and in its decoder. Prefix-tuning (Li and Liang 2021) and P-tuning v2 (Liu et al. 2022) are similar,
    but learn keys and values instead. The deeper vectors are initialised with the layers' outputs for the first ones,
    which prefix-tuning found best (section 7.4), so that each layer reads inputs of the usual kind.
    """

    kind: Literal["prompt"]
    length: Annotated[int, Field(ge=1, le=200)] = 20
    """Number of virtual tokens."""
    position: Literal["before", "after"] = "before"
    """Position of the virtual tokens: before or after the text, inside its special tokens."""
    depth: Literal["input", "all"] = "input"
    """Learn the embeddings of the virtual tokens only (input), or their vectors at every layer (all)."""
    init: Literal["random", "text", "vocabulary"] = "vocabulary"
    """Initial embeddings: random with the embeddings' standard deviation, the tokens of `init_text`, or randomly
    sampled frequent tokens of the vocabulary."""
    init_text: str = ""
    """Initial text of the virtual tokens, repeated or cut to `length`; for init: text."""
    rate: PositiveFloat = 400.0
    """Learning rate of the virtual tokens and the head, relative to the recipe's; few vectors must each move far."""

    @model_validator(mode="after")
    def _has_a_text(self) -> Self:
        if (self.init == "text") != bool(self.init_text.strip()):
            raise ValueError("init: text and init_text require each other. Set both or neither")
        return self

    def prompt(self) -> Prompt:
        """Return the virtual tokens, before or after the text."""
        before, after = (self.length, 0) if self.position == "before" else (0, self.length)
        return Prompt(before, after, deep=self.depth == "all")

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Select the learned vectors."""
        return info.name.endswith(".prompt")

    def peft_config(self, model: "PreTrainedModel") -> "PromptTuningConfig":
        """Return the number of virtual tokens.

        Raises:
            RecipeError: PEFT's prompt tuning only learns embeddings of virtual tokens before the text.
        """
        from peft import PromptTuningConfig

        if self.depth != "input" or self.position != "before":
            problem = (
                f"with depth {self.depth} and position {self.position} has no counterpart in PEFT, whose prompt tuning "
                "learns embeddings of virtual tokens before the text"
            )
            raise RecipeError("strategies", self.kind, problem, "Serve the model with MLflow, which includes the code")
        return PromptTuningConfig(num_virtual_tokens=self.length, num_transformer_submodules=1)

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Add a parameter `prompt` to the embedding table and, with depth `all`, to each block but the first."""
        from torch import nn

        self._refuse_too_long(model)
        stack_list, vectors = require_stacks(model, self.kind), None
        virtual = [PromptTokens() for _ in stack_list]
        for stack, tokens in zip(stack_list, virtual):
            # With depth `input`, an encoder and its decoder share the vectors of the first stack.
            if vectors is None or self.depth == "all":
                vectors = nn.Parameter(self._initial_embeddings(stack.embeddings, tokenizer))
            stack.embeddings.register_parameter("prompt", vectors)
            stack.embeddings.register_forward_pre_hook(tokens.hide)
            stack.embeddings.register_forward_hook(tokens.show)
        if self.depth == "all":
            read = hidden_states_of_prompt(model, stack_list, self.length)
            self._refuse_other_layout(model, stack_list, read)
            for stack, tokens in zip(stack_list, virtual):
                for block in stack.blocks[1:]:  # the first block reads those of the embedding table
                    block.module.register_parameter("prompt", nn.Parameter(read[block.module]))
                    block.module.register_forward_pre_hook(tokens.replace, with_kwargs=True)

    def _refuse_other_layout(
        self, model: "PreTrainedModel", stacks: "Sequence[Stack]", read: "Mapping[nn.Module, Tensor]"
    ) -> None:
        """Raise RecipeError if blocks read tokens first (XLNet), or are called without hooks (SqueezeBERT)."""
        blocks = [block.module for stack in stacks for block in stack.blocks]
        if any(block not in read or len(read[block]) != self.length for block in blocks):
            problem = f"cannot act in the blocks of the family {model.config.model_type}"
            raise RecipeError("strategies", self.kind, problem, "Set depth to input")

    def _refuse_too_long(self, model: "PreTrainedModel") -> None:
        limit = position_limit(model.config)
        if limit is not None and self.length >= limit:
            problem = f"adds {self.length} virtual tokens, but the model can only read {limit} tokens"
            raise RecipeError("strategies", self.kind, problem, "Set a smaller length")

    def _initial_embeddings(self, embeddings: "nn.Module", tokenizer: "PreTrainedTokenizerBase") -> "Tensor":
        """Return the initial embeddings, [length, width]."""
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
    """Return the ids of frequent tokens, without special tokens and BERT's [unused…] tokens."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(COMMON, len(tokenizer)))))
    special = set(tokenizer.all_special_tokens)
    return [index for index, token in enumerate(tokens) if token not in special and not token.startswith("[unused")]
