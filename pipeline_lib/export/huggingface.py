"""Write a trained model as a plain transformers folder: full weights under the names of its architecture."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.target_scale import TargetScale
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.quantized import Deviation, measure_deviation
from pipeline_lib.models.base_model import LOCAL, TOKENIZER, digests, load_tokenizer
from pipeline_lib.models.building import load_trained, read_card
from pipeline_lib.models.head_precision import head_modules
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import ParameterInfo, StrategySection

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERIFIED_ROWS = 8
"""Test rows on which an export is verified."""
COMPARED_ROWS = 64
"""Test rows on which it is compared with the model that was trained on a quantised base."""
SAMPLE = "The quick brown fox jumps over the lazy dog, 42 times."


def write_plain(folder: Path, base: Path | None, out: Path, rows: "pyarrow.Table | None" = None) -> Deviation | None:
    """Write config, weights and tokenizer of a trained model, and verify the result.

    The outputs of model and export are compared in fp32. Then the weights are rounded to the base's data type, if
    that is known and not float32.

    Args:
        folder: The folder of the trained model.
        base: The folder of its base, if the model is stored without it.
        out: The folder to write to.
        rows: Encoded rows to verify on; without any, a built-in sentence.

    Returns:
        How far the export is from what was trained on a quantised base; None for any other.

    Raises:
        RecipeError: If a strategy cannot be merged into the weights of the architecture, or the export of a model with
            a quantised base is too far from it.
    """
    card, tokenizer = read_card(folder), load_tokenizer(folder)
    model = load_trained(folder, base, quantized=False)
    inputs = _inputs(tokenizer, rows, VERIFIED_ROWS)
    expected = _outputs(model, inputs)
    _unwrap(model)
    _refuse_leftovers(model, card["strategies"])
    deviation = _compare_with_quantized(folder, base, model, _inputs(tokenizer, rows, COMPARED_ROWS))
    if scale := card["target_scale"]:
        expected = [output * scale.deviation + scale.mean for output in expected]
        _fold_target_scale(model, scale)
    model.save_pretrained(out)
    _write_config(folder, out)
    for name in digests(folder, TOKENIZER):
        shutil.copyfile(folder / name, out / name)
    _verify(model, inputs, expected, out)
    dtype = weights_format(base) if base and not scale else "float32"  # the mean of a target scale needs fp32
    if dtype != "float32":
        _round(model, dtype, out)
        _write_config(folder, out, dtype)
    return deviation


def _compare_with_quantized(
    folder: Path, base: Path | None, model: "PreTrainedModel", inputs: "list[Tensor]"
) -> Deviation | None:
    """Compare a model with the one that has the quantised base of the training, if that had one."""
    quantization = read_card(folder)["quantization"]
    if not quantization:
        return None
    trained = _outputs(load_trained(folder, base), inputs)
    return measure_deviation(quantization.kind, trained, _outputs(model, inputs))


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


def _round(model: "PreTrainedModel", dtype: str, out: Path) -> None:
    """Write the weights again in another data type."""
    import torch

    rounded = model.to(getattr(torch, dtype))
    overflowed = [name for name, weight in rounded.named_parameters() if not weight.isfinite().all()]
    if overflowed:
        problem = f"has trained weights that overflow in the base's {dtype}: {overflowed[0]}"
        raise RecipeError("model.base", model.name_or_path, problem, "Train from the same base saved as float32")
    for file in out.glob("*.safetensors*"):
        file.unlink()
    rounded.save_pretrained(out)


def _inputs(tokenizer: "PreTrainedTokenizerBase", rows: "pyarrow.Table | None", most: int) -> "list[Tensor]":
    """Token ids of the first rows, each [1, tokens]: a batch would need padding, which not every head supports."""
    import torch

    encoded = [] if rows is None else rows["input_ids"].slice(0, most).to_pylist()
    # the first window of rows that have several
    first = [ids[0] if ids and isinstance(ids[0], list) else ids for ids in encoded]
    return [torch.tensor([ids]) for ids in first if ids] or [tokenizer(SAMPLE, return_tensors="pt")["input_ids"]]


def _outputs(model: "PreTrainedModel", inputs: "list[Tensor]") -> "list[Tensor]":
    """The model's first output for each input. A decoder that needs ids of its own gets the same ones."""
    import torch

    outputs = []
    for ids in inputs:
        decoder_inputs = {"decoder_input_ids": ids} if _needs_decoder_ids(model) else {}
        with torch.no_grad():
            outputs.append(model(input_ids=ids.to(model.device), **decoder_inputs, return_dict=False)[0])
    return outputs


def _needs_decoder_ids(model: "PreTrainedModel") -> bool:
    """Whether the model generates text: classifiers of the same families derive the decoder's ids themselves."""
    return bool(model.config.is_encoder_decoder and model.can_generate())


def _unwrap(model: "PreTrainedModel") -> None:
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


def _fold_target_scale(model: "PreTrainedModel", scale: TargetScale) -> None:
    """Fold the target scale into the last layer, so that plain outputs are in the data's unit."""
    import torch
    from torch import nn

    layers = [part for head in head_modules(model) for part in head.modules() if isinstance(part, nn.Linear)]
    last = layers[-1] if layers else None
    if last is None or last.out_features != 1 or last.bias is None:
        family = type(model).__name__
        problem = f"was trained on standardised targets, and the last layer of {family} has no bias to hold the mean"
        hint = "Serve the model with MLflow, which includes the code: mlflow models serve -m MODEL"
        raise RecipeError("objective.problem_type", "regression", problem, hint)
    with torch.no_grad():
        last.bias.mul_(scale.deviation).add_(scale.mean)
        last.weight.mul_(scale.deviation)


def _refuse_leftovers(model: "PreTrainedModel", strategies: Sequence[Strategy]) -> None:
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
        hint = "Serve the model with MLflow, which includes the code: mlflow models serve -m MODEL"
        raise RecipeError("strategies", [s.kind for s in strategies], problem, hint)


def _write_config(folder: Path, out: Path, dtype: str = "float32") -> None:
    """Write the stored config, which the regularizers of training did not change, with the weights' data type."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"dtype": dtype}, indent=2, sort_keys=True)
    (out / "config.json").write_text(text + "\n", encoding="utf-8")


def _verify(model: "PreTrainedModel", inputs: "list[Tensor]", expected: "list[Tensor]", out: Path) -> None:
    """Load the folder with transformers, and compare tensors and outputs, to detect lost ties or names."""
    import torch

    model_class: Any = type(model)
    reloaded, report = model_class.from_pretrained(out, **LOCAL, output_loading_info=True)
    tensors = reloaded.state_dict()
    wrong = [name for name, tensor in model.state_dict().items() if not torch.equal(tensors[name], tensor.cpu())]
    wrong += [*report["missing_keys"], *report["unexpected_keys"], *(key[0] for key in report["mismatched_keys"])]
    if wrong:
        raise RuntimeError(f"the export differs from the trained model in {', '.join(sorted(map(str, wrong))[:5])}")
    size = max(1.0, *(float(output.abs().max()) for output in expected))  # regression outputs have the data's unit
    torch.testing.assert_close(_outputs(reloaded.eval(), inputs), expected, atol=1e-4 * size, rtol=1e-3)
