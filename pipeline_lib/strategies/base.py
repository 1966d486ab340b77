"""Base class of strategies, with optional hooks, and the position of a parameter in a model."""

import re
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import NonNegativeInt, PositiveFloat

from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


TRAINS_MATRICES = "trains matrices in the blocks, which model.quantization freezes"


def plain_name(name: str) -> str:
    """Return the name that a parameter had before a strategy wrapped its module."""
    return re.sub(r"(\.base_layer)+\.", ".", name)  # PEFT nests its wrappers of experts


class ParameterInfo(NamedTuple):
    """A parameter and its depth: 0 for embeddings, 1 to `layers` for the blocks, `layers` + 1 above the blocks."""

    name: str
    depth: int
    layers: int
    is_head: bool = False
    fixed: bool = False
    """Whether it cannot be learned, because the model's output does not depend on it."""

    @property
    def plain(self) -> str:
        """The name before any wrapping; patterns match this name."""
        return plain_name(self.name)

    @property
    def is_norm(self) -> bool:
        """Whether it belongs to a layer norm or RMSNorm, judging by the name of its module."""
        module = self.plain.lower().rpartition(".")[0].rpartition(".")[2]
        return "norm" in module or module.startswith("ln_")


class Prompt(NamedTuple):
    """Number of virtual tokens before and after the input; `deep` ones also precede a decoder's text."""

    before: int
    after: int
    deep: bool


class StrategySection(Section):
    """Selects parameters to train and their learning rates. A recipe's strategies are applied in order.

    First all parameters are frozen, then each strategy injects its modules. The head and all parameters that any
    strategy selects are unfrozen, and the strategies' learning rate scales are multiplied. Strategies can therefore be
    combined freely.
    """

    trains_base: ClassVar[bool] = False
    """Whether it trains all parameters of the base."""

    start_epoch: NonNegativeInt = 0
    """First epoch, counted from 0, in which the strategy's parameters are trained: `full` with 1 trains the head
    first."""

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Add modules to the model.

        Existing parameters must keep their names, except for an added `.base_layer`.
        """

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Return whether the strategy trains this parameter."""
        return False

    def lr_scale(self, info: ParameterInfo) -> float:
        """Return the parameter's learning rate, relative to the recipe's."""
        return 1.0

    def head_lr_scale(self) -> float | None:
        """Return the head's learning rate, relative to the recipe's, that suits what the strategy trains.

        The smallest value among the recipe's strategies is used; None leaves the choice to the others.
        """
        return None

    def is_unfrozen(self, info: ParameterInfo, epoch: int) -> bool:
        """Return whether a parameter of the strategy is trained in this epoch, counted from 0."""
        return epoch >= self.start_epoch

    def prompt(self) -> Prompt | None:
        """Return the virtual tokens that the strategy's modules need in the input, or None."""
        return None

    def why_not_quantized(self) -> str:
        """Return why the strategy needs a base that is not quantised; empty if it does not."""
        return ""

    def peft_config(self, model: "PreTrainedModel") -> "PeftConfig | None":
        """Return PEFT's configuration of what the strategy trains in a plain model; None if PEFT has no such method.

        Raises:
            RecipeError: PEFT has the method, but not with these settings.
        """
        return None

    def merge(self, model: "PreTrainedModel") -> None:
        """Merge injected modules into the base's weights if that changes no output; called on trained models."""


class AddedWeights(StrategySection):
    """A strategy that adds new weights to a frozen model."""

    rate: PositiveFloat = 20.0
    """Learning rate of the added weights and the head, relative to the recipe's; new weights have further to move."""

    def lr_scale(self, info: ParameterInfo) -> float:
        """Return `rate` for the added weights."""
        return self.rate if self.is_trainable(info) else 1.0

    def head_lr_scale(self) -> float:
        """Return the rate of the added weights."""
        return self.rate
