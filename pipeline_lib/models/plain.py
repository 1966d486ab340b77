"""A trained model as a plain folder of transformers: whole weights under the names that its architecture gives them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base import LOCAL, TOKENIZER, digests
from pipeline_lib.models.build import load_trained, read_card
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import Place, StrategySection

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def write_plain(folder: Path, base: Path | None, out: Path) -> None:
    """Write config, weights and tokenizer of the trained model in `folder`; `base` where it needs one.

    Raises RecipeError where a strategy cannot be folded into the weights that the architecture has.
    """
    model = load_trained(folder, base)
    expected = _computed(model)
    _unwrap(model)
    _refuse_leftovers(model, read_card(folder)["strategies"])
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
    torch.testing.assert_close(_computed(again.eval()), expected, atol=1e-4, rtol=1e-3)
