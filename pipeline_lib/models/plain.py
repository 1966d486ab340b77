"""A trained model as a plain folder of transformers: whole weights under the names that its architecture gives them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.target_scale import TargetScale
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base import LOCAL, TOKENIZER, digests
from pipeline_lib.models.build import load_trained, read_card
from pipeline_lib.models.head_precision import head_modules
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import Place, StrategySection

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def write_plain(folder: Path, base: Path | None, out: Path) -> None:
    """Write config, weights and tokenizer of the trained model in `folder`; `base` where it needs one.

    Raises RecipeError where a strategy cannot be folded into the weights that the architecture has.
    """
    model, card = load_trained(folder, base), read_card(folder)
    expected = _computed(model)
    _unwrap(model)
    _refuse_leftovers(model, card["strategies"])
    if scale := card["target_scale"]:
        expected = expected * scale.deviation + scale.mean
        _answer_in_unit(model, scale)
    model.save_pretrained(out)
    _write_config(folder, out)
    for name in digests(folder, TOKENIZER):
        shutil.copyfile(folder / name, out / name)
    _prove(model, expected, out)


def _computed(model: "PreTrainedModel") -> "Tensor":
    """What a model makes of a few tokens that every vocabulary has."""
    import torch

    with torch.no_grad():
        return model(**model.dummy_inputs, return_dict=False)[0]


def _unwrap(model: "PreTrainedModel") -> None:
    """Put what PEFT has wrapped back in the wrapper's place, where the wrapper's own part is merged into it.

    An adapter may hang on the wrapper; it would be lost without a word.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
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
        mend = "Serve the model with MLflow, which brings the code along: mlflow models serve -m MODEL"
        raise RecipeError("objective.problem_type", "regression", problem, mend)
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
    kinds = [s.kind for s in adding if any(s.trains(Place(name, 0, 0)) for name in left)]
    if left:
        names = " and ".join(map(repr, kinds)) or "a strategy"
        problem = f"{names} cannot be written as plain weights: {type(model).__name__} has no place for what it adds"
        mend = "Serve the model with MLflow, which brings the code along: mlflow models serve -m MODEL"
        raise RecipeError("strategies", [s.kind for s in strategies], problem, mend)


def _write_config(folder: Path, out: Path) -> None:
    """The trained model's config, which training's regularizers have not touched, with the weights' number type."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"dtype": "float32"}, indent=2, sort_keys=True)
    (out / "config.json").write_text(text + "\n", encoding="utf-8")


def _prove(model: "PreTrainedModel", expected: "Tensor", out: Path) -> None:
    """Read the folder back as anyone will, and compare tensors and outputs: no lost tie or name may go out."""
    import torch

    kind: Any = type(model)
    again, told = kind.from_pretrained(out, **LOCAL, output_loading_info=True)
    tensors = again.state_dict()
    wrong = [name for name, tensor in model.state_dict().items() if not torch.equal(tensors[name], tensor.cpu())]
    wrong += [*told["missing_keys"], *told["unexpected_keys"], *(key[0] for key in told["mismatched_keys"])]
    if wrong:
        raise RuntimeError(f"the export does not hold the trained model's {', '.join(sorted(map(str, wrong))[:5])}")
    size = float(expected.abs().max().clamp(min=1))  # of numbers in the data's unit
    torch.testing.assert_close(_computed(again.eval()), expected, atol=1e-4 * size, rtol=1e-3)
