"""Put weights back to where they started, other ones in each step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor, nn


class Mixout(RegularizerSection):
    """A step computes with ((1 - M) w + M u - p u) / (1 - p) for weights w (Lee, Cho and Kang 2020, section 3).

    u are the weights before training and M is drawn from Bernoulli(p), so that the mean is w; where w = u nothing
    changes. M is drawn for each weight by itself, which the paper calls mixconnect and its theorem 1 covers too; the
    authors' code draws it once for all weights that leave a neuron.

    All trained weights are mixed, biases and norms included. A new head goes back to its random first values, small
    as they are; what a strategy injects goes back to its own.
    """

    needs_start: ClassVar[bool] = True

    kind: Literal["mixout"]
    probability: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """Share p of the weights that are put back in a step; the paper tries 0.7, 0.8 and 0.9 on large models."""

    @contextmanager
    def perturb_weights(self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]") -> Iterator[None]:
        """Mixed weights inside; outside the true ones again, with the gradient that the chain rule gives them."""
        import torch

        kept: dict[str, tuple[Tensor, Tensor]] = {}
        share = 1 - self.probability
        try:
            for name, weight in weights.items():
                own = torch.empty_like(weight, dtype=torch.bool).bernoulli_(share)
                kept[name] = weight.data, own
                # the equation in a form that gives u to the bit where M = 1 or w = u
                weight.data = torch.where(own, start[name] + (weight.data - start[name]) / share, start[name])
            yield
        finally:  # also when the step fails: whoever catches that finds the true weights
            for name, (data, own) in kept.items():
                weights[name].data = data
                if (gradient := weights[name].grad) is not None:
                    gradient.mul_(own).div_(share)
