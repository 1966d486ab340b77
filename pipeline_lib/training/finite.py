"""Stop a training whose loss is infinite or not a number, and say why."""

import math
from typing import TYPE_CHECKING

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.shards import local
from pipeline_lib.recipe.schema import Recipe

if TYPE_CHECKING:
    from torch import nn


def refuse_infinite(loss: float, step: int, model: "nn.Module", recipe: Recipe) -> None:
    """Raise RecipeError if the loss of a step, counted from 0, is not a finite number.

    At the first step it names the base's weights if those are the reason.
    """
    if math.isfinite(loss):
        return
    broken = _first_infinite(model) if step == 0 else None
    if broken:
        problem = f"has weights that are infinite or not numbers ({broken})"
        raise RecipeError("model.base", recipe.model.base, problem, "Download the model again, or choose another base")
    rate = recipe.training.learning_rate
    hint = "Lower it, or set execution.precision to fp32"
    raise RecipeError("training.learning_rate", rate, f"the loss is {loss} at step {step + 1}", hint)


def _first_infinite(model: "nn.Module") -> str | None:
    """Return the name of the first parameter with a value that is not a finite number."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(local(parameter.detach())).all()):
            return name
    return None
