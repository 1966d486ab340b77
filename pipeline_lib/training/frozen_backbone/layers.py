"""Determine which layers stay frozen in a training, from the recipe and the parameters' depths only."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipeline_lib.models.parameter_depth import ENCODER
from pipeline_lib.strategies.base import ParameterInfo

if TYPE_CHECKING:
    from pipeline_lib.recipe.schema import Recipe


def frozen_layers(recipe: "Recipe", infos: Collection[ParameterInfo]) -> int:
    """Return how many blocks are below the lowest trained layer and compute the same output in every step.

    This holds for all epochs or, if every block is unfrozen at some point, for the first `frozen_epochs`. For an
    encoder-decoder it is the whole encoder or nothing. It is 0 if a regularizer acts in every layer, or if rows are
    packed.
    """
    if recipe.training.packing or find_global_regularizers(recipe):
        return 0
    return _frozen_layers(recipe, infos, frozen_epochs(recipe, infos))


def frozen_epochs(recipe: "Recipe", infos: Collection[ParameterInfo]) -> int:
    """Return for how many epochs, from the first one on, the backbone stays frozen."""
    total = recipe.training.epochs
    if _frozen_layers(recipe, infos, total):
        return total
    first = _frozen_layers(recipe, infos, 1)
    return max(epochs for epochs in range(1, total + 1) if _frozen_layers(recipe, infos, epochs) == first)


def why_not_cached(recipe: "Recipe", infos: Collection[ParameterInfo]) -> str:
    """Return why the outputs of frozen layers cannot be cached; empty if they can, or if no layer is frozen."""
    epochs = frozen_epochs(recipe, infos)
    if not _frozen_layers(recipe, infos, epochs):
        return ""
    if kinds := find_global_regularizers(recipe):
        return f"{' and '.join(kinds)} acts in frozen layers too"
    if recipe.training.packing:
        return "training.packing joins rows"
    if is_divided(recipe):
        return f"execution.sharding is {recipe.execution.sharding}"
    if recipe.objective.stochastic_targets:
        return f"{recipe.objective.kind} masks different tokens in every step"
    return "it would be used in one epoch only" if epochs == 1 < recipe.training.epochs else ""


def is_divided(recipe: "Recipe") -> bool:
    """Return whether the recipe asks for a training in which no process has the whole model."""
    execution = recipe.execution
    return execution.ranks > 1 and execution.sharding in ("full", "hybrid")


def find_global_regularizers(recipe: "Recipe") -> list[str]:
    """Return the kinds of regularizers that affect frozen layers during training."""
    return [regularizer.kind for regularizer in recipe.regularizers if regularizer.acts_everywhere]


def is_unfrozen(recipe: "Recipe", parameter: ParameterInfo, epoch: int) -> bool:
    """Return whether a parameter is trained in this epoch, counted from 0."""
    owners = (strategy for strategy in recipe.strategies if strategy.is_trainable(parameter))
    return parameter.is_head or any(strategy.is_unfrozen(parameter, epoch) for strategy in owners)


def _frozen_layers(recipe: "Recipe", infos: Collection[ParameterInfo], epochs: int) -> int:
    """Return how many blocks are below the lowest layer that is trained in the first `epochs` epochs."""
    layers = max(parameter.layers for parameter in infos)
    lowest = min((parameter.depth for parameter in infos if is_unfrozen(recipe, parameter, epochs - 1)), default=0)
    encoder = max((p.depth for p in infos if ENCODER.search(p.name) and p.depth <= layers and not p.is_head), default=0)
    if 0 < encoder < layers:  # an encoder-decoder
        return encoder if lowest > encoder else 0
    return max(0, lowest - 1)
