"""Turn a trained model with merged updates into its plain architecture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.target_scale import TargetScale
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.verification import model_outputs, verification_inputs
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_trained, read_card
from pipeline_lib.models.head_precision import head_modules
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import ParameterInfo, StrategySection

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel

SERVE = "Serve the model with MLflow, which includes the code: mlflow models serve -m MODEL"


def load_plain(
    folder: Path, base: Path | None, rows: "pyarrow.Table | None"
) -> "tuple[PreTrainedModel, list[Tensor], list[Tensor]]":
    """Load a trained model in fp32 as its plain architecture.

    Returns:
        The model, the inputs to verify an export on, and the outputs that the trained model computes for them, in the
        unit of the data.
    """
    model, card = load_trained(folder, base, plain=True), read_card(folder)
    inputs = verification_inputs(load_tokenizer(folder), rows)
    expected = model_outputs(model, inputs)
    unwrap(model)
    refuse_leftovers(model, card["strategies"])
    if scale := card["target_scale"]:
        expected = [output * scale.deviation + scale.mean for output in expected]
        fold_target_scale(model, scale)
    return model, inputs, expected


def unwrap(model: "PreTrainedModel") -> None:
    """Replace PEFT's wrappers by the layers that they wrap, if the wrapper's weights are merged into them.

    Wrappers with hooks stay, because a bottleneck adapter hooked to one would be lost silently.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if ".base_layer" in name:  # layers wrapped twice are handled with their outermost wrapper
            continue
        hooked = module._forward_hooks or module._forward_pre_hooks
        if isinstance(module, BaseTunerLayer) and module.merged and not hooked:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.get_base_layer())


def fold_target_scale(model: "PreTrainedModel", scale: TargetScale) -> None:
    """Fold the target scale into the last layer, so that plain outputs are in the data's unit."""
    import torch
    from torch import nn

    layers = [part for head in head_modules(model) for part in head.modules() if isinstance(part, nn.Linear)]
    last = layers[-1] if layers else None
    if last is None or last.out_features != 1 or last.bias is None:
        family = type(model).__name__
        problem = f"was trained on standardised targets, and the last layer of {family} has no bias to hold the mean"
        raise RecipeError("objective.problem_type", "regression", problem, SERVE)
    with torch.no_grad():
        last.bias.mul_(scale.deviation).add_(scale.mean)
        last.weight.mul_(scale.deviation)


def refuse_leftovers(model: "PreTrainedModel", strategies: Sequence[Strategy]) -> None:
    """Raise RecipeError if strategies left parameters in the model that its plain architecture does not have."""
    import torch

    with torch.device("meta"):  # only names are needed: takes no memory and no time
        plain: Any = type(model)(model.config)
    leftovers = model.state_dict().keys() - plain.state_dict().keys()
    adding = [strategy for strategy in strategies if type(strategy).inject is not StrategySection.inject]
    kinds = [
        strategy.kind
        for strategy in adding
        if any(strategy.is_trainable(ParameterInfo(name, 0, 0)) for name in leftovers)
    ]
    if leftovers:
        names = " and ".join(map(repr, kinds)) or "a strategy"
        problem = f"{names} cannot be written as plain weights: {type(model).__name__} has no such modules"
        raise RecipeError("strategies", [s.kind for s in strategies], problem, SERVE)


def weights_format(base: Path) -> str:
    """The data type of most of a base's weights: bfloat16 or float16, or float32 for any other."""
    from collections import Counter

    from safetensors import safe_open

    sizes: Counter[str] = Counter()
    for file in base.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # safe_open is not a mapping
                part = weights.get_slice(name)
                sizes[part.get_dtype()] += math.prod(part.get_shape())
    (most, _), *_ = sizes.most_common(1) or [("F32", 0)]
    return {"BF16": "bfloat16", "F16": "float16"}.get(most, "float32")


def round_weights(model: "PreTrainedModel", dtype: str) -> None:
    """Convert the weights to another data type; raise RecipeError if one of them overflows."""
    import torch

    model.to(getattr(torch, dtype))
    refuse_overflow(model, dtype)


def refuse_overflow(model: "PreTrainedModel", dtype: str) -> None:
    """Raise RecipeError if a weight became infinite when it was rounded."""
    overflowed = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if overflowed:
        problem = f"has trained weights that overflow in the base's {dtype}: {overflowed[0]}"
        raise RecipeError("model.base", model.name_or_path, problem, "Train from the same base saved as float32")
