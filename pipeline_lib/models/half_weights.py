"""Keep a base's frozen matrices in half precision and compute as if they were in fp32.

Each matrix is converted when it is used, and converted again in the backward pass, so no copy of it is kept. A bfloat16
or float16 number is a float32 number too: where the files hold such numbers, no result changes. Under autocast in the
same format nothing is converted at all.

Patched are linear layers and embeddings of the plain classes. Other matrices, such as those of experts, stay in fp32,
and so do biases and norms, which are small.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline_lib.models.head_names import head_names
from pipeline_lib.models.weight_files import stored_tensors

if TYPE_CHECKING:
    from torch import Tensor

Convert = Callable[["torch.dtype"], "Tensor"]
Product = Callable[["Tensor", "Tensor", Any], "Tensor"]
Format = Literal["auto", "fp32", "bf16", "fp16"]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
STORED = {"BF16": torch.bfloat16, "F16": torch.float16}
"""Names of the formats in safetensors files."""


def half_format(base: Path, dtype: Format) -> "torch.dtype | None":
    """Return the half precision in which a base's matrices are kept; None for fp32.

    auto: the format of its files, if all of their matrices have the same.
    """
    if dtype != "auto":
        return HALF.get(dtype)
    formats = {STORED.get(part.format) for part in stored_tensors(base).values() if part.dimensions > 1}
    return formats.pop() if len(formats) == 1 else None


@contextmanager
def load_matrices_in(half: "torch.dtype | None") -> Iterator[None]:
    """Context in which `from_pretrained` reads the matrices that can be kept in `half` directly in that format.

    transformers reads each tensor in the format of the empty parameter that it replaces. Changes the class of all
    models, so the caller must hold a lock.
    """
    if half is None:
        yield
        return
    original = PreTrainedModel._get_dtype_plan

    def plan(self: PreTrainedModel, dtype: "torch.dtype") -> dict[Any, Any]:
        keep_in(half, self)  # on the meta device
        return original(self, dtype)

    PreTrainedModel._get_dtype_plan = plan  # type: ignore[method-assign]
    try:
        yield
    finally:
        PreTrainedModel._get_dtype_plan = original  # type: ignore[method-assign]


def keep_in(half: "torch.dtype", model: "PreTrainedModel") -> None:
    """Convert the matrices of a model that can be kept in half precision."""
    for parameter in _storable(model):
        parameter.data = parameter.data.to(half)


def compute_in_full(model: "PreTrainedModel") -> None:
    """Patch the layers of a model whose matrices are in half precision."""
    for module in model.modules():
        if type(module) in FORWARDS and module.weight.dtype in HALF.values():
            module.forward = MethodType(FORWARDS[type(module)], module)


def widen(parameters: Iterable[nn.Parameter]) -> None:
    """Convert parameters in half precision to fp32, one after the other."""
    for parameter in parameters:
        if parameter.dtype in HALF.values():
            parameter.data = parameter.data.float()


def is_patched(linear: "nn.Linear") -> bool:
    """Return whether a linear layer computes as patched here."""
    return getattr(vars(linear).get("forward"), "__func__", None) is _linear


def _storable(model: "PreTrainedModel") -> "list[nn.Parameter]":
    """Return the matrices that are used by plain layers only, of the backbone and of the base's own output layer."""
    output = model.get_output_embeddings()
    names = head_names(model)  # once: builds a model of some families
    new = {id(weight) for name, weight in model.named_parameters() if name in names}
    new.discard(id(getattr(output, "weight", None)))
    others, plain = new, {}
    for name, module in model.named_modules():
        stays_in_fp32 = any(
            part in name for part in model._keep_in_fp32_modules or ()
        )  # their inputs take the weights' format
        for key, weight in module.named_parameters(recurse=False):
            if type(module) in FORWARDS and key == "weight" and not stays_in_fp32:
                plain[id(weight)] = weight
            else:
                others.add(id(weight))
    return [weight for key, weight in plain.items() if key not in others]


def _linear(module: Any, given: "Tensor") -> "Tensor":
    return _matmul(given, module.weight, module.bias, functional.linear)


def _conv1d(module: Any, given: "Tensor") -> "Tensor":
    """Compute as transformers' Conv1D, whose weight is transposed."""
    return _matmul(given, module.weight, module.bias, _addmm)


def _addmm(given: "Tensor", weight: "Tensor", bias: "Tensor") -> "Tensor":
    out = torch.addmm(bias, given.view(-1, given.shape[-1]), weight)
    return out.view(*given.shape[:-1], weight.shape[1])


def _embed(module: Any, ids: "Tensor") -> "Tensor":
    return functional.embedding(ids, module.weight, module.padding_idx).float()


FORWARDS: dict[type, Any] = {nn.Linear: _linear, Conv1D: _conv1d, nn.Embedding: _embed}


def _matmul(given: "Tensor", weight: "Tensor", bias: "Tensor | None", product: Product) -> "Tensor":
    if compute_format(given) == weight.dtype:
        return product(given, weight, bias)
    return multiply_converted(given, weight, weight.to, bias, product)


def compute_format(given: "Tensor") -> "torch.dtype":
    """Return the format in which a layer computes with an input: that of autocast, or else the input's own."""
    device = given.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else given.dtype


def multiply_converted(
    given: "Tensor", weight: "Tensor", convert: Convert, bias: "Tensor | None", product: Product = functional.linear
) -> "Tensor":
    """Multiply an input with a frozen matrix, stored as `weight` and converted to the format to compute in."""
    return _Converted.apply(given, weight, bias, convert, product, compute_format(given))


class _Converted(torch.autograd.Function):
    """A product with a converted matrix, which is not kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, given: "Tensor", weight: "Tensor", bias: "Tensor | None", convert: Convert, product: Product,
        dtype: "torch.dtype",
    ) -> "Tensor":  # fmt: skip
        ctx.convert, ctx.product, ctx.dtype, ctx.given = convert, product, dtype, given.dtype
        return product(given.to(dtype), convert(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, grad: "Tensor") -> Any:  # type: ignore[override]
        given = bias = None
        if ctx.needs_input_grad[0]:
            matrix = ctx.convert(ctx.dtype)
            given = (grad @ (matrix if ctx.product is functional.linear else matrix.T)).to(ctx.given)
        if ctx.needs_input_grad[2]:
            bias = grad.flatten(0, -2).sum(0).float()
        return given, None, bias, None, None, None  # the matrix is frozen, and an input for the graph's sake
