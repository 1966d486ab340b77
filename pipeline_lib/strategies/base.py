"""The hooks of a strategy, all optional, and where a parameter stands in a model."""

import re
from typing import TYPE_CHECKING, NamedTuple

from pydantic import NonNegativeInt, PositiveFloat

from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def plain_name(name: str) -> str:
    """The name that a parameter had before a strategy wrapped its module."""
    return re.sub(r"(\.base_layer)+\.", ".", name)  # wrappers of experts are nested


class ParameterInfo(NamedTuple):
    """Where a parameter stands: 0 are the embeddings, 1 to `layers` the blocks, `layers` + 1 all above them."""

    name: str
    depth: int
    layers: int
    is_head: bool = False
    fixed: bool = False
    """Whether nothing can be learned of it: the model's output does not depend on it, or it is computed."""

    @property
    def plain(self) -> str:
        """The name before any wrapping; patterns are matched with it."""
        return plain_name(self.name)


class Prompt(NamedTuple):
    """Virtual tokens around the input; `deep` ones stand before a decoder's text too."""

    before: int
    after: int
    deep: bool


class StrategySection(Section):
    """What is trained and how fast. A recipe's strategies are applied in order:

    all is frozen, each strategy injects its modules, then the head and whatever any strategy owns is thawed, and
    the rates' scales are multiplied. A combination is therefore a list and never a special case.
    """

    start_epoch: NonNegativeInt = 0
    """Epoch, from 0, before which the strategy's parameters stay as they are: `full` with 1 is head first, then all."""

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Add modules to the model. Names of parameters that the model had may gain `.base_layer`, nothing else."""

    def is_trainable(self, place: ParameterInfo) -> bool:
        """Whether the strategy owns this parameter."""
        return False

    def lr_scale(self, place: ParameterInfo) -> float:
        """The parameter's learning rate, relative to the recipe's."""
        return 1.0

    def head_lr_scale(self) -> float | None:
        """The head's learning rate, relative to the recipe's, that goes with what the strategy trains.

        The smallest of all strategies' counts; None leaves it to the others.
        """
        return None

    def is_unfrozen(self, place: ParameterInfo, epoch: int) -> bool:
        """Whether a parameter that the strategy owns is trained in this epoch, from 0."""
        return epoch >= self.start_epoch

    def prompt(self) -> Prompt | None:
        """Virtual tokens that the strategy's modules understand."""
        return None

    def merge(self, model: "PreTrainedModel") -> None:
        """Fold injected modules into the base's weights where that changes no output; called on trained models."""


class AddedWeights(StrategySection):
    """What adds weights of its own to a model that stays as it is."""

    rate: PositiveFloat = 20.0
    """Learning rate of what is added and of the head, relative to the recipe's: new weights move further than old."""

    def lr_scale(self, place: ParameterInfo) -> float:
        """`rate` for what it trains."""
        return self.rate if self.is_trainable(place) else 1.0

    def head_lr_scale(self) -> float:
        """As fast as what is added."""
        return self.rate
