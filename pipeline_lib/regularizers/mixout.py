"""Reset a random part of the weights to their initial values in each step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.models.shards import local, local_part
from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor, nn


class Mixout(RegularizerSection):
    """Mixout: a step uses ((1 - M) w + M u - p u) / (1 - p) in place of weights w (Lee, Cho and Kang 2020, section 3).

    u are the weights before training and M is drawn from Bernoulli(p), so the expected value is w, and weights with
    w = u do not change. M is drawn for each weight independently, which the paper calls mixconnect and its theorem 1
    also covers; the authors' code draws it once for all outgoing weights of a neuron.

    All trained weights are mixed, including biases and norms. The weights of a new head are reset to their small
    random initial values, and weights injected by a strategy to their own initial values.
    """

    needs_start: ClassVar[bool] = True

    kind: Literal["mixout"]
    probability: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """Share p of the weights that are reset in a step; the paper uses 0.7, 0.8 and 0.9 on large models."""

    @contextmanager
    def perturb_weights(self, weights: "Mapping[str, nn.Parameter]", start: "Mapping[str, Tensor]") -> Iterator[None]:
        """Replace the weights by mixed ones; on exit restore them and apply the chain rule to their gradients."""
        import torch

        originals: dict[str, tuple[Tensor, Tensor]] = {}
        share = 1 - self.probability
        try:
            for name, weight in weights.items():
                whole = torch.empty(weight.shape, dtype=torch.bool, device=weight.device)
                keep = local_part(whole.bernoulli_(share), weight)  # 1 - M, drawn for all parts by each process
                data, initial = local(weight.detach()), local(start[name])
                originals[name] = data.clone(), keep
                # The equation rearranged so that the result is bitwise equal to u where M = 1 or w = u.
                data.copy_(torch.where(keep, initial + (data - initial) / share, initial))
            yield
        finally:  # also if the step fails: the caller must get the original weights back
            for name, (original, keep) in originals.items():
                local(weights[name].detach()).copy_(original)
                if (gradient := weights[name].grad) is not None:
                    # The derivative of the mixed weight with respect to w is (1 - M) / (1 - p).
                    local(gradient).mul_(keep).div_(share)
