"""What of a model stays as it is in a training, known from the recipe and the places of parameters alone."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipeline_lib.models.places import ENCODER
from pipeline_lib.strategies.base import Place

if TYPE_CHECKING:
    from pipeline_lib.recipe import Recipe


def trunk_layers(recipe: "Recipe", where: Collection[Place]) -> int:
    """How many blocks lie below the lowest layer that is trained at any time and compute the same in every step.

    Of an encoder-decoder they are its whole encoder, or none. None too where a regularizer acts in every layer.
    """
    if acting_everywhere(recipe):
        return 0
    return _frozen_layers(recipe, where)


def why_not_kept(recipe: "Recipe", where: Collection[Place]) -> str:
    """Why what frozen layers put out is computed in every step; empty where it can be kept, or where there are none."""
    if not _frozen_layers(recipe, where):
        return ""
    if kinds := acting_everywhere(recipe):
        return f"{' and '.join(kinds)} acts in frozen layers too"
    return f"{recipe.objective.kind} hides other tokens in every step" if recipe.objective.varies else ""


def acting_everywhere(recipe: "Recipe") -> list[str]:
    """The kinds of regularizers that act in training in frozen layers too."""
    return [regularizer.kind for regularizer in recipe.regularizers if regularizer.acts_everywhere]


def _frozen_layers(recipe: "Recipe", where: Collection[Place]) -> int:
    trained = [p.depth for p in where if p.is_head or any(strategy.trains(p) for strategy in recipe.strategies)]
    layers = max(place.layers for place in where)
    encoder = max((p.depth for p in where if ENCODER.search(p.name) and p.depth <= layers and not p.is_head), default=0)
    lowest = min(trained, default=0)
    if 0 < encoder < layers:
        return encoder if lowest > encoder else 0
    return max(0, lowest - 1)
