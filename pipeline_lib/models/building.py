"""Build the model that is trained, and write and read what training changed.

A model's folder holds config.json, the tokenizer and tunesmith.json, and its weights either whole
(model.safetensors, which plain transformers loads) or as what differs from the base (trained.safetensors).
"""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from pipeline_lib.data.target_scale import TargetScale
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import TOKENIZER, WEIGHTS, digests, load_config, load_tokenizer
from pipeline_lib.models.parameter_depth import PLACES, parameter_infos, write_parameter_infos
from pipeline_lib.models.prompt_inputs import refuse_unread
from pipeline_lib.objectives import Objective
from pipeline_lib.regularizers import Regularizer
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import plain_name
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEW, TRAINED, CARD = "new.safetensors", "trained.safetensors", "tunesmith.json"
POINTER = "base.json"
"""What says, beside an adapter in MLflow, which base it needs and where that is kept."""


def write_initial(
    objective: Objective, strategies: Sequence[Strategy], base: Path, labels: Sequence[str], seed: int, folder: Path
) -> None:
    """Write the starting point: config, tokenizer, and the parameters that the base lacks, drawn from `seed`."""
    import torch

    torch.manual_seed(seed)
    tokenizer = load_tokenizer(base)
    model, head = objective.model(str(base), labels)
    known = {name for name, _ in model.named_parameters()} - head
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _inject(strategies, model, tokenizer)
    refuse_unread(objective, strategies, model)
    _refuse_nothing(strategies, model, head)
    write_parameter_infos(model, head, folder / PLACES)
    new = {name: tensor for name, tensor in model.named_parameters() if plain_name(name) not in known}
    save_tensors(new, folder / NEW)
    card = {
        "objective": objective.model_dump(mode="json"),
        "strategies": [s.model_dump(mode="json") for s in strategies],
        "labels": list(labels),
        "head": sorted(head),
        "injected": any(plain_name(name) not in head for name in new),
        "base": digests(base, WEIGHTS),
    }
    _write_card(card, folder)


def load_initial(
    base: Path, initial: Path, regularizers: Sequence[Regularizer] = ()
) -> "tuple[PreTrainedModel, set[str]]":
    """The model of a starting point with the regularizers' configuration, and the names of its head's parameters."""
    card, known = read_card(initial), load_config(initial)
    config = {name: value for regularizer in regularizers for name, value in regularizer.configure(known).items()}
    model, _ = card["objective"].model(str(base), card["labels"], **config)
    _inject(card["strategies"], model, load_tokenizer(initial))
    load_tensors(dict(model.named_parameters()), initial / NEW)
    return model, {name for name, _ in model.named_parameters() if plain_name(name) in card["head"]}


def write_trained(
    model: "PreTrainedModel",
    trained: Collection[str],
    initial: Path,
    precision: str,
    folder: Path,
    scale: TargetScale | None = None,
    asked: Mapping[str, bool] | None = None,
) -> None:
    """Write the model's folder: whole where it is a plain model trained in every parameter, else what was trained.

    `scale` is kept in tunesmith.json: the weights put out standardised numbers. So is `asked`: the roles that the model
    is given, and whether each must be there; empty: the objective's own.
    """
    shutil.copytree(initial, folder, ignore=shutil.ignore_patterns(NEW, PLACES, MANIFEST))
    card = json.loads((initial / CARD).read_text(encoding="utf-8")) | {
        "precision": precision,
        "target_scale": asdict(scale) if scale else None,
        "asked": asked,
    }
    _write_card(card, folder)
    parameters = dict(model.named_parameters())
    fixed = {name for name, place in parameter_infos(model, set()).items() if place.fixed}
    if fixed.union(trained) == parameters.keys() and not card["injected"]:
        model.save_pretrained(folder)
        shutil.copyfile(initial / "config.json", folder / "config.json")  # without what regularizers set for training
    else:
        save_tensors({name: parameters[name] for name in trained}, folder / TRAINED)


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
    model, _ = card["objective"].model(str(folder if whole or base is None else base), card["labels"])
    _inject(card["strategies"], model, load_tokenizer(folder))
    if not whole:
        load_tensors(dict(model.named_parameters()), folder / TRAINED)
    for strategy in card["strategies"]:
        strategy.merge(model)
    return model.eval()


def load_untrained(folder: Path, base: Path, seed: int) -> "PreTrainedModel":
    """The model of a trained folder as it was before its training, in evaluation mode."""
    card = read_card(folder)
    with temporary_folder() as initial:
        write_initial(card["objective"], card["strategies"], base, card["labels"], seed, initial)
        model, _ = load_initial(base, initial)
    return model.eval()


def read_card(folder: Path) -> dict[str, Any]:
    """What a model's folder says of itself, with `objective`, `strategies` and `target_scale` as objects."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    scale = card.get("target_scale")  # only a trained model has one
    objective = TypeAdapter(Objective).validate_python(card["objective"])
    return card | {
        "target_scale": TargetScale(**scale) if scale else None,
        "asked": card.get("asked") or dict(objective.input_roles),
        "objective": objective,
        "strategies": TypeAdapter(tuple[Strategy, ...]).validate_python(card["strategies"]),
    }


def _write_card(card: dict[str, Any], folder: Path) -> None:
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """Write tensors as safetensors, from whatever device."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_tensors(parameters: "Mapping[str, nn.Parameter]", path: Path) -> None:
    """Copy the tensors of a file into the parameters of the same names."""
    import torch
    from safetensors.torch import load_file

    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameters[name].copy_(tensor)


def copy_base(base: Path, folder: Path) -> None:
    """Copy the files of a base that decide what it computes."""
    for name in digests(base, (*WEIGHTS, *TOKENIZER)):
        shutil.copyfile(base / name, folder / name)


def _inject(strategies: Sequence[Strategy], model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    for strategy in strategies:
        strategy.inject(model, tokenizer)


def _refuse_nothing(strategies: Sequence[Strategy], model: "PreTrainedModel", head: set[str]) -> None:
    where = parameter_infos(model, head).values()
    if not head and not any(strategy.is_trainable(place) for strategy in strategies for place in where):
        kinds = [strategy.kind for strategy in strategies]
        problem = "no trainable parameters: this base and objective add no head, and no strategy selects a layer"
        raise RecipeError("strategies", kinds, problem, "Add a strategy that trains something, such as full or lora")
