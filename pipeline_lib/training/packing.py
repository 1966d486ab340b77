"""Test before the first step that a model keeps packed rows apart."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import RecipeError
from pipeline_lib.training.batches import collate, pack
from pipeline_lib.training.fast_paths.attention import pack_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.training.step import Stepper

TOLERANCE = 1e-4
"""Root mean square of the allowed differences of token losses, in nats; they are computed in fp32."""


def refuse_unpackable(stepper: "Stepper") -> None:
    """Raise RecipeError if packed rows have other losses than padded ones.

    That is so for recurrent families such as Mamba, whose state goes from one row to the next, and for families that
    take no positions, or whose masks have no room for more tokens than positions.
    """
    difference = _difference(stepper)
    if difference is not None and difference <= TOLERANCE:
        return
    problem = f"is not possible with the family {stepper.model.config.model_type}, "
    if difference is None:
        problem += "which cannot read packed rows"
    else:
        problem += f"which mixes packed rows: token losses differ by {difference:.1g}"
    raise RecipeError("training.packing", True, problem, "Leave it out, or choose another base, such as a Llama")


def _difference(stepper: "Stepper") -> float | None:
    """Return the root mean square difference of the token losses; None if the model fails on packed rows."""
    import torch

    rows, device = _sample(stepper), stepper.accelerator.device
    training = stepper.model.training
    stepper.model.eval()
    try:
        with torch.no_grad():
            packed = _losses(stepper, *pack(stepper.train, rows, device))
            padded = _losses(stepper, *collate(stepper.train, rows, stepper.pad, device))
    except torch.OutOfMemoryError:
        raise  # not a property of the family
    except (RuntimeError, ValueError, TypeError, IndexError):  # families fail in many ways
        return None
    finally:
        stepper.model.train(training)
    return float((packed - padded).square().mean().sqrt()) if len(packed) else 0.0


def _sample(stepper: "Stepper") -> np.ndarray:
    """Return the longest rows, as many as fit into a pack, so that windows and widths count, between short ones."""
    lengths = stepper.train.ids.lengths
    ordered = np.argsort(-lengths, kind="stable")
    limit = pack_tokens(stepper.model, int(lengths.max()), stepper.recipe.training.batch_tokens)
    count = int(np.searchsorted(np.cumsum(lengths[ordered]), limit, side="right"))
    return np.unique([*ordered[: max(count, 2)], *ordered[-2:]])


def _losses(stepper: "Stepper", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
    losses: Tensor = stepper.recipe.objective.outputs(stepper.model, batch, targets).losses
    return losses.double()
