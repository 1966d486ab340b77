"""Train small adapters between the frozen layers."""

import functools
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat, PositiveInt

from pipeline_lib.models.families import modules
from pipeline_lib.strategies.base import AddedWeights, ParameterInfo

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Bottleneck(AddedWeights):
    """Adapters h <- h + s W_up f(W_down h + b_down) + s b_up, h being what a sub-layer puts out before its residual.

    houlsby: after attention and after the feed-forward (Houlsby et al. 2019, figure 2). pfeiffer: after the
    feed-forward alone (Pfeiffer et al. 2021, AdapterFusion). parallel: h <- FFN(x) + s W_up f(W_down x),
    beside the feed-forward and from its input x (He et al. 2022, table 1). W_up and the biases start at zero, so that
    training starts from the base's own function, and W_down as in `torch.nn.Linear`, uniform in +-1 / sqrt(width): all
    of the first gradient goes to W_up, whatever the size of W_down, and this one passes on the scale of what it reads.
    """

    kind: Literal["bottleneck"]
    placement: Literal["houlsby", "pfeiffer", "parallel"] = "parallel"
    """Where adapters stand: after both sub-layers, after the feed-forward, or beside it, which learned best here."""
    size: PositiveInt = 64
    """Width of the bottleneck; an adapter has about 2 * size * (the model's width) parameters."""
    activation: Literal["relu", "gelu"] = "gelu"
    """The function f."""
    scale: PositiveFloat = 1.0
    """The factor s. He et al. 2022 take 4 in parallel: at the default `rate` that is too fast."""
    layer_norms: bool | None = None
    """Train the layer norms above the embeddings too; empty: with houlsby, as its section 2.1 does, and not else."""

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Each adapter becomes a child of the projection that its sub-layer ends with, so that no name changes.

        Experts share one, at the module that holds them and their router.
        """
        ends = modules(model, "feed_out", self.kind)
        if self.placement == "houlsby":
            ends |= modules(model, "attention", self.kind)
        begins = modules(model, "feed_in", self.kind).values() if self.placement == "parallel" else ends.values()
        for begin, end in zip(begins, ends.values(), strict=True):
            end.add_module("adapter", self._adapter(_width(end) or model.config.hidden_size))
            if self.placement == "parallel":
                around = Around()
                begin.register_forward_pre_hook(around.read)
                end.register_forward_hook(functools.partial(self._beside, around))
            else:
                end.register_forward_hook(self._after)

    def is_trainable(self, place: ParameterInfo) -> bool:
        """The adapters, and the layer norms where asked for."""
        norms = self.placement == "houlsby" if self.layer_norms is None else self.layer_norms
        return ".adapter." in place.name or (norms and place.depth > 0 and _is_norm(place.name))

    def _adapter(self, width: int) -> "nn.Module":
        from collections import OrderedDict

        from torch import nn

        down, up = nn.Linear(width, self.size), nn.Linear(self.size, width)
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)
        between = nn.ReLU() if self.activation == "relu" else nn.GELU()
        return nn.Sequential(OrderedDict(down=down, between=between, up=up))

    def _after(self, end: Any, args: Any, out: Any) -> Any:
        return self._add(end, out, out[0] if isinstance(out, tuple) else out)

    def _beside(self, around: "Around", end: Any, args: Any, out: Any) -> Any:
        return self._add(end, out, around.taken())

    def _add(self, end: Any, out: Any, read: "Tensor | None") -> Any:
        """`out` with what the adapter makes of `read`; experts may return their router's scores beside it."""
        added = self.scale * end.adapter(read)
        return (out[0] + added, *out[1:]) if isinstance(out, tuple) else out + added


class Around:
    """Brings a feed-forward's input past it to its adapter."""

    input: "Tensor | None" = None

    def read(self, begin: Any, args: Any) -> None:
        """Called before the feed-forward's first module."""
        self.input = args[0]

    def taken(self) -> "Tensor | None":
        """The input, which is not kept any longer: it would keep the whole step's gradients in memory."""
        taken, self.input = self.input, None
        return taken


def _width(end: Any) -> int | None:
    """How many numbers a matrix puts out for each token; None for a module around experts."""
    return getattr(end, "out_features", None) or getattr(end, "nf", None)


def _is_norm(name: str) -> bool:
    return re.search(r"norm|(^|\.)ln_", name.lower()) is not None
