"""A trained model as a plain folder of transformers: whole weights under the names that its architecture gives them."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.target_scale import TargetScale
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import LOCAL, TOKENIZER, digests, load_tokenizer
from pipeline_lib.models.building import load_trained, read_card
from pipeline_lib.models.head_precision import head_modules
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import ParameterInfo, StrategySection

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROVED = 8
"""Test rows on which an export is proved."""
SAMPLE = "The quick brown fox jumps over the lazy dog, 42 times."


def write_plain(folder: Path, base: Path | None, out: Path, rows: "pyarrow.Table | None" = None) -> None:
    """Write config, weights and tokenizer of the trained model in `folder`; `base` where it needs one.

    `rows` are encoded ones, on which the outputs of model and export are compared in fp32; without any it is one text
    of ours. Then the weights are rounded to the number format of the base, where that is another one and known.
    Raises RecipeError where a strategy cannot be folded into the weights that the architecture has.
    """
    model, card = load_trained(folder, base), read_card(folder)
    inputs = _inputs(load_tokenizer(folder), rows)
    expected = _computed(model, inputs)
    _unwrap(model)
    _refuse_leftovers(model, card["strategies"])
    if scale := card["target_scale"]:
        expected = [each * scale.deviation + scale.mean for each in expected]
        _answer_in_unit(model, scale)
    model.save_pretrained(out)
    _write_config(folder, out)
    for name in digests(folder, TOKENIZER):
        shutil.copyfile(folder / name, out / name)
    _prove(model, inputs, expected, out)
    kept = weights_format(base) if base and not scale else "float32"  # a scale's mean needs all of its digits
    if kept != "float32":
        _round(model, kept, out)
        _write_config(folder, out, kept)


def weights_format(base: Path) -> str:
    """The number format of most of a base's weights: float32, bfloat16 or float16; float32 where it is another one."""
    from collections import Counter

    from safetensors import safe_open

    sizes: Counter[str] = Counter()
    for file in base.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # no mapping
                part = weights.get_slice(name)
                sizes[part.get_dtype()] += math.prod(part.get_shape())
    (most, _), *_ = sizes.most_common(1) or [("F32", 0)]
    return {"BF16": "bfloat16", "F16": "float16"}.get(most, "float32")


def _round(model: "PreTrainedModel", kept: str, out: Path) -> None:
    """Write the weights again in the number format `kept`."""
    import torch

    rounded = model.to(getattr(torch, kept))
    if wrong := [name for name, weight in rounded.named_parameters() if not weight.isfinite().all()]:
        problem = f"has trained weights that do not fit into the base's {kept}: {wrong[0]}"
        raise RecipeError("model.base", model.name_or_path, problem, "Train from the same base saved as float32")
    for file in out.glob("*.safetensors*"):
        file.unlink()
    rounded.save_pretrained(out)


def _inputs(tokenizer: "PreTrainedTokenizerBase", rows: "pyarrow.Table | None") -> "list[Tensor]":
    """Token ids of the first rows, one by one: a batch would need padding, which not every head can read."""
    import torch

    known = [] if rows is None else rows["input_ids"].slice(0, PROVED).to_pylist()
    first = [ids[0] if ids and isinstance(ids[0], list) else ids for ids in known]  # of several windows the first
    return [torch.tensor([ids]) for ids in first if ids] or [tokenizer(SAMPLE, return_tensors="pt")["input_ids"]]


def _computed(model: "PreTrainedModel", inputs: "list[Tensor]") -> "list[Tensor]":
    """What a model makes of each input: its first output. A decoder that wants a text of its own reads the same."""
    import torch

    outputs = []
    for ids in inputs:
        more = {"decoder_input_ids": ids} if _wants_decoder_text(model) else {}
        with torch.no_grad():
            outputs.append(model(input_ids=ids.to(model.device), **more, return_dict=False)[0])
    return outputs


def _wants_decoder_text(model: "PreTrainedModel") -> bool:
    """Whether the model writes: classifiers of the same families make their decoder's text themselves."""
    return bool(model.config.is_encoder_decoder and model.can_generate())


def _unwrap(model: "PreTrainedModel") -> None:
    """Put what PEFT has wrapped back in the wrapper's place, where the wrapper's own part is merged into it.

    An adapter may hang on the wrapper; it would be lost without a word.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if ".base_layer" in name:  # what is wrapped twice goes back with its outermost wrapper
            continue
        hooked = module._forward_hooks or module._forward_pre_hooks
        if isinstance(module, BaseTunerLayer) and module.merged and not hooked:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.get_base_layer())


def _answer_in_unit(model: "PreTrainedModel", scale: TargetScale) -> None:
    """Fold the scale of the targets into the last layer, so that transformers' own outputs are in the data's unit."""
    import torch
    from torch import nn

    layers = [part for head in head_modules(model) for part in head.modules() if isinstance(part, nn.Linear)]
    last = layers[-1] if layers else None
    if last is None or last.out_features != 1 or last.bias is None:
        family = type(model).__name__
        problem = f"is learned standardised, and the last layer of {family} has no bias that could hold the mean"
        hint = "Serve the model with MLflow, which brings the code along: mlflow models serve -m MODEL"
        raise RecipeError("objective.problem_type", "regression", problem, hint)
    with torch.no_grad():
        last.bias.mul_(scale.deviation).add_(scale.mean)
        last.weight.mul_(scale.deviation)


def _refuse_leftovers(model: "PreTrainedModel", strategies: Sequence[Strategy]) -> None:
    """Whatever a strategy has added computes something only as long as a parameter of its own is there."""
    import torch

    with torch.device("meta"):  # names alone: no memory, no time
        plain: Any = type(model)(model.config)
    left = model.state_dict().keys() - plain.state_dict().keys()
    adding = [s for s in strategies if type(s).inject is not StrategySection.inject]
    kinds = [s.kind for s in adding if any(s.is_trainable(ParameterInfo(name, 0, 0)) for name in left)]
    if left:
        names = " and ".join(map(repr, kinds)) or "a strategy"
        problem = f"{names} cannot be written as plain weights: {type(model).__name__} has no place for what it adds"
        hint = "Serve the model with MLflow, which brings the code along: mlflow models serve -m MODEL"
        raise RecipeError("strategies", [s.kind for s in strategies], problem, hint)


def _write_config(folder: Path, out: Path, kept: str = "float32") -> None:
    """The trained model's config, which training's regularizers have not touched, with the weights' number type."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"dtype": kept}, indent=2, sort_keys=True)
    (out / "config.json").write_text(text + "\n", encoding="utf-8")


def _prove(model: "PreTrainedModel", inputs: "list[Tensor]", expected: "list[Tensor]", out: Path) -> None:
    """Read the folder back as anyone will, and compare tensors and outputs: no lost tie or name may go out."""
    import torch

    kind: Any = type(model)
    again, told = kind.from_pretrained(out, **LOCAL, output_loading_info=True)
    tensors = again.state_dict()
    wrong = [name for name, tensor in model.state_dict().items() if not torch.equal(tensors[name], tensor.cpu())]
    wrong += [*told["missing_keys"], *told["unexpected_keys"], *(key[0] for key in told["mismatched_keys"])]
    if wrong:
        raise RuntimeError(f"the export does not hold the trained model's {', '.join(sorted(map(str, wrong))[:5])}")
    size = max(1.0, *(float(each.abs().max()) for each in expected))  # of numbers in the data's unit
    torch.testing.assert_close(_computed(again.eval(), inputs), expected, atol=1e-4 * size, rtol=1e-3)
