"""What of a model stays as it is in a training, known from the recipe and the places of parameters alone."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipeline_lib.models.parameter_depth import ENCODER
from pipeline_lib.strategies.base import ParameterInfo

if TYPE_CHECKING:
    from pipeline_lib.recipe.schema import Recipe


def frozen_layers(recipe: "Recipe", where: Collection[ParameterInfo]) -> int:
    """How many blocks lie below the lowest layer that is trained and compute the same in every step.

    That is in all epochs, or where every block is trained sooner or later, in the first ones: `trunk_epochs`. Of an
    encoder-decoder they are its whole encoder, or none. None too where a regularizer acts in every layer.
    """
    return 0 if acting_everywhere(recipe) else _frozen_layers(recipe, where, frozen_epochs(recipe, where))


def frozen_epochs(recipe: "Recipe", where: Collection[ParameterInfo]) -> int:
    """For how many epochs, from the first one on, the trunk stays as it is."""
    every = recipe.training.epochs
    if _frozen_layers(recipe, where, every):
        return every
    first = _frozen_layers(recipe, where, 1)
    return max(epochs for epochs in range(1, every + 1) if _frozen_layers(recipe, where, epochs) == first)


def why_not_cached(recipe: "Recipe", where: Collection[ParameterInfo]) -> str:
    """Why what frozen layers put out is computed in every step; empty where it can be kept, or where there are none."""
    epochs = frozen_epochs(recipe, where)
    if not _frozen_layers(recipe, where, epochs):
        return ""
    if kinds := acting_everywhere(recipe):
        return f"{' and '.join(kinds)} acts in frozen layers too"
    if recipe.objective.stochastic_targets:
        return f"{recipe.objective.kind} hides other tokens in every step"
    return "it is read in one epoch alone" if epochs == 1 < recipe.training.epochs else ""


def acting_everywhere(recipe: "Recipe") -> list[str]:
    """The kinds of regularizers that act in training in frozen layers too."""
    return [regularizer.kind for regularizer in recipe.regularizers if regularizer.acts_everywhere]


def _frozen_layers(recipe: "Recipe", where: Collection[ParameterInfo], epochs: int) -> int:
    """How many blocks lie below the lowest layer that is trained in the first `epochs` epochs."""

    def trained(place: ParameterInfo) -> bool:
        owners = (strategy for strategy in recipe.strategies if strategy.is_trainable(place))
        return place.is_head or any(strategy.is_unfrozen(place, epochs - 1) for strategy in owners)

    layers, lowest = max(place.layers for place in where), min((p.depth for p in where if trained(p)), default=0)
    encoder = max((p.depth for p in where if ENCODER.search(p.name) and p.depth <= layers and not p.is_head), default=0)
    if 0 < encoder < layers:
        return encoder if lowest > encoder else 0
    return max(0, lowest - 1)
