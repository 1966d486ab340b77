"""The three hooks of a strategy, all optional, and where a parameter stands in a model."""

from typing import TYPE_CHECKING, NamedTuple

from pipeline_lib.schema import Section

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Place(NamedTuple):
    """Where a parameter stands: 0 are the embeddings, 1 to `layers` the blocks, `layers` + 1 all above them."""

    name: str
    depth: int
    layers: int
    is_head: bool = False


class StrategySection(Section):
    """What is trained and how fast. A recipe's strategies are applied in order:

    all is frozen, each strategy injects its modules, then the head and whatever any strategy owns is thawed, and
    the rates' scales are multiplied. A combination is therefore a list and never a special case.
    """

    def inject(self, model: "PreTrainedModel") -> None:
        """Add modules to the model."""

    def trains(self, place: Place) -> bool:
        """Whether the strategy owns this parameter."""
        return False

    def lr_scale(self, place: Place) -> float:
        """The parameter's learning rate, relative to the recipe's."""
        return 1.0
