"""Build the model that is trained, and write and read what training changed.

A model's folder holds config.json, the tokenizer and tunesmith.json, and its weights either whole
(model.safetensors, which plain transformers loads) or as what differs from the base (trained.safetensors).
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from pipeline_lib.models.base import TOKENIZER, WEIGHTS, digests, load_tokenizer
from pipeline_lib.objectives import Objective
from pipeline_lib.schema import RecipeError
from pipeline_lib.store import MANIFEST
from pipeline_lib.strategies import Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NEW, TRAINED, CARD = "new.safetensors", "trained.safetensors", "tunesmith.json"


def write_initial(
    objective: Objective, strategies: Sequence[Strategy], base: Path, labels: Sequence[str], seed: int, folder: Path
) -> None:
    """Write the starting point: config, tokenizer, and the parameters that the base lacks, drawn from `seed`."""
    import torch

    torch.manual_seed(seed)
    model, head = _load(objective, base, labels)
    known = {name for name, _ in model.named_parameters()} - head
    _inject(strategies, model)
    save_tensors({n: p for n, p in model.named_parameters() if n not in known}, folder / NEW)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    card = {
        "objective": objective.model_dump(mode="json"),
        "strategies": [s.model_dump(mode="json") for s in strategies],
        "labels": list(labels),
        "head": sorted(head),
        "base": digests(base, WEIGHTS),
    }
    _write_card(card, folder)


def load_initial(base: Path, initial: Path) -> "tuple[PreTrainedModel, set[str]]":
    """The model of a starting point, and the names of its head's parameters."""
    card = read_card(initial)
    model, _ = _load(card["objective"], base, card["labels"])
    _inject(card["strategies"], model)
    load_tensors(model, initial / NEW)
    return model, set(card["head"])


def write_trained(model: "PreTrainedModel", initial: Path, precision: str, folder: Path) -> None:
    """Write the model's folder: whole where every parameter was trained, else what was trained and what is new."""
    shutil.copytree(initial, folder, ignore=shutil.ignore_patterns(NEW, MANIFEST))
    card = json.loads((initial / CARD).read_text(encoding="utf-8")) | {"precision": precision}
    _write_card(card, folder)
    if all(parameter.requires_grad for parameter in model.parameters()):
        model.save_pretrained(folder)
    else:
        save_tensors({n: p for n, p in model.named_parameters() if p.requires_grad}, folder / TRAINED)


def load_trained(folder: Path, base: Path | None = None) -> "PreTrainedModel":
    """A trained model in evaluation mode; `base` is needed where the folder holds only what differs from it.

    Raises RecipeError where `base` is not, byte for byte, the base that was trained.
    """
    card = read_card(folder)
    whole = not (folder / TRAINED).exists()
    if not whole and (base is None or digests(base, WEIGHTS) != card["base"]):
        raise RecipeError(
            "model.base",
            str(base),
            "is not the base that this model was trained from",
            f"Give the one whose files have the SHA-256 that {folder / CARD} names",
        )
    model, _ = _load(card["objective"], folder if whole or base is None else base, card["labels"])
    _inject(card["strategies"], model)
    if not whole:
        load_tensors(model, folder / TRAINED)
    return model.eval()


def read_card(folder: Path) -> dict[str, Any]:
    """What a model's folder says of itself, with `objective` and `strategies` as objects."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return card | {
        "objective": TypeAdapter(Objective).validate_python(card["objective"]),
        "strategies": TypeAdapter(tuple[Strategy, ...]).validate_python(card["strategies"]),
    }


def _write_card(card: dict[str, Any], folder: Path) -> None:
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")


def save_tensors(tensors: "dict[str, Tensor]", path: Path) -> None:
    """Write tensors as safetensors, from whatever device."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_tensors(model: "nn.Module", path: Path) -> None:
    """Copy the tensors of a file into the model's parameters of the same names."""
    import torch
    from safetensors.torch import load_file

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameters[name].copy_(tensor)


def copy_base(base: Path, folder: Path) -> None:
    """Copy the files of a base that decide what it computes."""
    for name in digests(base, (*WEIGHTS, *TOKENIZER)):
        shutil.copyfile(base / name, folder / name)


def _load(objective: Objective, base: Path, labels: Sequence[str]) -> "tuple[PreTrainedModel, set[str]]":
    import transformers

    transformers.utils.logging.set_verbosity_error()  # it warns of the new head, which is as it should be
    transformers.utils.logging.disable_progress_bar()
    return objective.model(str(base), labels)


def _inject(strategies: Sequence[Strategy], model: "PreTrainedModel") -> None:
    for strategy in strategies:
        strategy.inject(model)
