"""Keep the matrices in a base's blocks in 8 or 4 bits, with bitsandbytes, and compute with the values they stand for.

Each matrix is quantised when it is read, so the whole base is never in memory; always on the CPU, so that the base is
the same on every device. A matrix is dequantised when it is used, and again in the backward pass (Dettmers et al. 2023,
QLoRA, equation 5).

The forward passes of bitsandbytes' layers are replaced. On a CPU they compute differently in training and in
evaluation, where int8 layers round their inputs and 4-bit ones pack their weights for the processor, and they round
biases in place. Here a trained model is a function of its weights only, as with a base in fp32.
"""

import re
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.families import projections
from pipeline_lib.models.half_weights import FORWARDS, multiply_converted
from pipeline_lib.models.parameter_depth import shape_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def quantization_options(kind: Any, config: Any, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with which `from_pretrained` quantises the matrices in the blocks while it reads them.

    Args:
        kind: An Auto class of transformers.
        config: The base's configuration.
        name: The recipe's name of the quantisation.
        options: Arguments of BitsAndBytesConfig.

    Raises:
        RecipeError: bitsandbytes is not installed, or the family's blocks have no plain linear layers.
    """
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        problem = "needs the package bitsandbytes, which is not installed"
        raise RecipeError("model.quantization", name, problem, "Install it: pip install bitsandbytes")
    with torch.device("meta"):  # only names are needed: takes no memory and no time
        empty = kind.from_config(config, trust_remote_code=False)
    names = quantizable(empty)
    if not names:
        problem = f"finds no plain linear layer in the blocks of the family {config.model_type}"
        raise RecipeError("model.quantization", name, problem, "Remove it, or choose another base")
    # transformers takes patterns of what is not quantised
    others = f"(?!(?:{'|'.join(map(re.escape, names))})$).*"
    return {
        "quantization_config": BitsAndBytesConfig(llm_int8_skip_modules=[others], **options),
        "device_map": {"": "cpu"},
    }


def quantizable(model: "PreTrainedModel") -> list[str]:
    """Return the names of the plain linear layers in a model's blocks."""
    return [name for name in projections(model) if type(model.get_submodule(name)) in FORWARDS]


def compute_dequantized(model: "PreTrainedModel") -> set[str]:
    """Patch the quantised layers of a model that was just read.

    Returns the names of weights that are not of the configured shape, which transformers does not notice.
    """
    quantizer: Any = model.hf_quantizer
    quantizer.remove_quantization_config(model)  # or it would be saved with the trained model
    wrong = set()
    for name, module in quantized_modules(model):
        module.forward = MethodType(_forward, module)
        module.weight.CB = None  # int8: a second reference, which would stay on the CPU
        if shape_of(module.weight) != (module.out_features, module.in_features):
            wrong.add(f"{name}.weight")
    return wrong


def quantized_modules(model: "nn.Module") -> "Iterator[tuple[str, Any]]":
    """Yield the quantised layers of a model with their names."""
    for name, module in model.named_modules():
        is_theirs = type(module).__module__.startswith("bitsandbytes.")
        if is_theirs and not module.weight.is_floating_point():  # a weight missing from the files is not quantised
            yield name, module


def dequantize(module: Any, dtype: "torch.dtype") -> "Tensor":
    """Return the dequantised matrix of a quantised layer."""
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    weight = module.weight
    if hasattr(weight, "quant_state"):
        return dequantize_4bit(weight.data, weight.quant_state).to(dtype)
    return int8_vectorwise_dequant(weight.data, weight.SCB.to(weight.device)).to(dtype)


def _forward(module: Any, given: "Tensor") -> "Tensor":
    return multiply_converted(given, module.weight, partial(dequantize, module), module.bias)
