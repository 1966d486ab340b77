"""Train bottleneck adapters in a frozen model."""

import functools
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat, PositiveInt

from pipeline_lib.models.families import part_modules
from pipeline_lib.strategies.base import AddedWeights, ParameterInfo

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Bottleneck(AddedWeights):
    """Bottleneck adapters: h <- h + s W_up f(W_down h + b_down) + s b_up, h being a sub-layer's output before the
    residual connection.

    houlsby: after attention and after the feed-forward (Houlsby et al. 2019, figure 2). pfeiffer: after the
    feed-forward only (Pfeiffer et al. 2021, AdapterFusion). parallel: h <- FFN(x) + s W_up f(W_down x), parallel to
    the feed-forward and from its input x (He et al. 2022, table 1). W_up and the biases start at zero, so that training
    starts from the base's own outputs. W_down starts as in `torch.nn.Linear`, uniform in +-1 / sqrt(width), which
    preserves the scale of its input; the first gradient reaches only W_up.
    """

    kind: Literal["bottleneck"]
    placement: Literal["houlsby", "pfeiffer", "parallel"] = "parallel"
    """Where to add adapters: houlsby (after both sub-layers), pfeiffer (after the feed-forward) or parallel (to the
    feed-forward), which scored best in our benchmarks."""
    size: PositiveInt = 64
    """Width of the bottleneck; an adapter has about 2 * size * (hidden size) parameters."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Activation function f."""
    scale: PositiveFloat = 1.0
    """Scaling factor s. He et al. 2022 use 4 with parallel, which is too large for the default `rate`."""
    layer_norms: bool | None = None
    """Also train the layer norms above the embeddings; empty: only with houlsby, as in its section 2.1."""

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Add each adapter as a child of the last projection of its sub-layer, so that no existing name changes.

        The experts of a block share one adapter, at the module that contains them and their router.
        """
        ends = part_modules(model, "feed_out", self.kind)
        if self.placement == "houlsby":
            ends |= part_modules(model, "attention", self.kind)
        begins = part_modules(model, "feed_in", self.kind).values() if self.placement == "parallel" else ends.values()
        for begin, end in zip(begins, ends.values(), strict=True):
            end.add_module("adapter", self._adapter(_width(end) or model.config.hidden_size))
            if self.placement == "parallel":
                # The hook at the last projection does not see the feed-forward's input: pass it from the first one.
                around = Around()
                begin.register_forward_pre_hook(around.store_input)
                end.register_forward_hook(functools.partial(self._parallel, around))
            else:
                end.register_forward_hook(self._adapt_output)

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Select the adapters, and the layer norms if requested."""
        norms = self.placement == "houlsby" if self.layer_norms is None else self.layer_norms
        return ".adapter." in info.name or (norms and info.depth > 0 and info.is_norm)

    def _adapter(self, width: int) -> "nn.Module":
        from collections import OrderedDict

        from torch import nn

        down, up = nn.Linear(width, self.size), nn.Linear(self.size, width)
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)
        between = nn.ReLU() if self.activation == "relu" else nn.GELU()
        return nn.Sequential(OrderedDict(down=down, between=between, up=up))

    def _adapt_output(self, end: Any, args: Any, out: Any) -> Any:
        return self._add(end, out, out[0] if isinstance(out, tuple) else out)

    def _parallel(self, around: "Around", end: Any, args: Any, out: Any) -> Any:
        return self._add(end, out, around.take_input())

    def _add(self, end: Any, out: Any, read: "Tensor | None") -> Any:
        """Add the adapter's output for the input `read` to `out`."""
        added = self.scale * end.adapter(read)
        if isinstance(out, tuple):  # a module around experts may also return its router's scores
            return (out[0] + added, *out[1:])
        return out + added


class Around:
    """Carries the input of a feed-forward to its parallel adapter."""

    input: "Tensor | None" = None

    def store_input(self, begin: Any, args: Any) -> None:
        """Store the input; a forward pre-hook of the feed-forward's first module."""
        self.input = args[0]

    def take_input(self) -> "Tensor | None":
        """Return the input and release it: a reference would keep the autograd graph of the step in memory."""
        taken, self.input = self.input, None
        return taken


def _width(end: Any) -> int | None:
    """Return the output size of a matrix (`nf` in GPT-2's Conv1D); None for a module around experts."""
    return getattr(end, "out_features", None) or getattr(end, "nf", None)
