"""Muon, with AdamW for the parameters that it is not made for."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.base import Group, OptimizerSection
from pipeline_lib.util.section import Share

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Muon(OptimizerSection):
    """Gives the averaged gradient of a matrix singular values near one before it is subtracted (Jordan et al. 2024).

    Embeddings, output layers, biases and norms are trained by AdamW. Updates of matrices are scaled to the size of
    AdamW's (Liu et al. 2025, equation 4), so that AdamW's usual learning rates apply to both.
    """

    state_floats: ClassVar[float] = 2.0
    kind: Literal["muon"]
    momentum: Share = 0.95
    """Decay of the average from one step to the next."""

    def build(self, groups: Sequence[Group]) -> "Optimizer":
        """Return torch's Muon for the matrices inside the model, and AdamW for the rest, as one optimizer."""
        from torch.optim import Muon

        hidden, rest = [g for g in groups if g.hidden], [g for g in groups if not g.hidden]
        parts: list[Optimizer] = []
        if hidden:
            options = [group.options() for group in hidden]
            parts.append(Muon(options, momentum=self.momentum, adjust_lr_fn="match_rms_adamw"))
        if rest:
            parts.append(AdamW(kind="adamw").build(rest))
        return parts[0] if len(parts) == 1 else _combine_optimizers(parts)


def _combine_optimizers(parts: "Sequence[Optimizer]") -> "Optimizer":
    """Return one optimizer whose groups and state are those of its parts, so that it can be resumed like any other."""
    from torch.optim import Optimizer

    class Combined(Optimizer):
        def __init__(self) -> None:
            super().__init__([group for part in parts for group in part.param_groups], {})

        def step(self, closure: Callable[[], float] | None = None) -> Any:
            groups = iter(self.param_groups)
            for part in parts:  # groups and state are others after load_state_dict
                part.param_groups = list(islice(groups, len(part.param_groups)))
                part.state = self.state
                part.step(closure)

    return Combined()
