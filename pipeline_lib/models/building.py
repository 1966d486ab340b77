"""Build the model to train, and save and load trained models.

A model's folder contains config.json, the tokenizer, tunesmith.json, and either all weights (model.safetensors, which
plain transformers can load) or only the trained ones (trained.safetensors).
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
from pipeline_lib.models.quantization import Quantization
from pipeline_lib.objectives import Objective
from pipeline_lib.regularizers import Regularizer
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import plain_name
from pipeline_lib.util.freed_memory import return_freed_memory
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.models.half_weights import Format
    from pipeline_lib.models.quantization.base import QuantizationSection

NEW, TRAINED, CARD = "new.safetensors", "trained.safetensors", "tunesmith.json"
BATCH_TOKENS = 4096
"""Maximum tokens per forward pass of models that do not say."""
POINTER = "base.json"
"""File next to an adapter in MLflow that names its base and where the base is stored."""


@return_freed_memory()
def write_initial(
    objective: Objective, strategies: Sequence[Strategy], base: Path, labels: Sequence[str], seed: int, folder: Path,
    dtype: "Format" = "auto", quantization: "QuantizationSection | None" = None,
) -> None:  # fmt: skip
    """Write the initial model: config, tokenizer, and the parameters that the base lacks, initialised from `seed`.

    `dtype` is the format of the base's frozen matrices, and `quantization` that of the matrices in its blocks.
    """
    import torch

    dtype = frozen_format(strategies, dtype)

    torch.manual_seed(seed)
    tokenizer = objective.tokenizer(base)
    model, head = objective.model(str(base), labels, dtype=dtype, quantization=quantization)
    base_names = {name for name, _ in model.named_parameters()} - head
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    inject_strategies(strategies, model, tokenizer)
    refuse_unread(objective, strategies, model)
    _refuse_nothing_trainable(strategies, model, head)
    _refuse_trained_quantized(strategies, model, head)
    write_parameter_infos(model, head, folder / PLACES)
    new = {name: tensor for name, tensor in model.named_parameters() if plain_name(name) not in base_names}
    save_tensors(new, folder / NEW)
    card = {
        "objective": objective.model_dump(mode="json"),
        "strategies": [strategy.model_dump(mode="json") for strategy in strategies],
        "labels": list(labels),
        "head": sorted(head),
        "dtype": dtype if dtype != "auto" else "fp32",  # the same numbers
        "quantization": quantization.model_dump(mode="json") if quantization else None,
        "injected": any(plain_name(name) not in head for name in new),
        "base": digests(base, WEIGHTS),
    }
    _write_card(card, folder)


def load_initial(
    base: Path, initial: Path, regularizers: Sequence[Regularizer] = (), dtype: "Format" = "auto",
    attention: str = "auto",
) -> "tuple[PreTrainedModel, set[str]]":  # fmt: skip
    """Load the model of an initial folder, configured by the regularizers, and the names of its head's parameters.

    `dtype` is the format of the base's frozen matrices, `attention` its implementation, by transformers' name.
    """
    card, overrides = read_card(initial), config_overrides(initial, regularizers, attention)
    dtype = frozen_format(card["strategies"], dtype)
    model, _ = card["objective"].model(
        str(base), card["labels"], dtype=dtype, quantization=card["quantization"], **overrides
    )
    inject_strategies(card["strategies"], model, load_tokenizer(initial))
    load_tensors(dict(model.named_parameters()), initial / NEW)
    return model, {name for name, _ in model.named_parameters() if plain_name(name) in card["head"]}


def config_overrides(folder: Path, regularizers: Sequence[Regularizer], attention: str) -> dict[str, Any]:
    """Return the values that a training overrides in the configuration of the model in a folder."""
    overrides: dict[str, Any] = {} if attention == "auto" else {"attn_implementation": attention}
    config = load_config(folder)
    for regularizer in regularizers:
        overrides |= regularizer.configure(config)
    return overrides


def write_trained(
    model: "PreTrainedModel",
    trained: Collection[str],
    initial: Path,
    precision: str,
    folder: Path,
    scale: TargetScale | None = None,
    input_roles: Mapping[str, bool] | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> None:
    """Write the folder of a trained model.

    Writes all weights if every parameter was trained and no strategy injected any, else only the trained ones.

    Args:
        model: The trained model.
        trained: Names of the trained parameters.
        initial: Folder of the initial model.
        precision: Precision the model was trained in.
        folder: Where to write.
        scale: Scale of a regression's targets, whose outputs are standardised; recorded in tunesmith.json.
        asked: Input roles of the model, and whether each is required; recorded in tunesmith.json. None: the
            objective's own.
        batch_tokens: Maximum tokens per forward pass when the model predicts; recorded in tunesmith.json.
    """
    shutil.copytree(initial, folder, ignore=shutil.ignore_patterns(NEW, PLACES, MANIFEST))
    card = json.loads((initial / CARD).read_text(encoding="utf-8")) | {
        "precision": precision,
        "target_scale": asdict(scale) if scale else None,
        "asked": input_roles,
        "batch_tokens": batch_tokens,
    }
    _write_card(card, folder)
    parameters = dict(model.named_parameters())
    fixed = {name for name, info in parameter_infos(model, set()).items() if info.fixed}
    if fixed.union(trained) == parameters.keys() and not card["injected"]:
        model.save_pretrained(folder)
        shutil.copyfile(initial / "config.json", folder / "config.json")  # without the regularizers' overrides
    else:
        save_tensors({name: parameters[name] for name in trained}, folder / TRAINED)


def load_trained(folder: Path, base: Path | None = None, plain: bool = False) -> "PreTrainedModel":
    """Load a trained model in evaluation mode.

    Updates are merged into a base in fp32. A base whose files are in half precision, or that was quantised in training,
    stays as it is, and updates beside it: merged in fp32 they would take two to eight times the memory.

    Args:
        folder: The folder of the trained model.
        base: The folder of its base; required if the folder has only the trained weights.
        plain: Load everything in fp32, from the base's own files, and merge. On a quantised base that is not what was
            trained.

    Raises:
        RecipeError: The files of `base` are not identical to those the model was trained from.
    """
    import torch

    from pipeline_lib.models.half_weights import widen

    card = read_card(folder)
    whole = not (folder / TRAINED).exists()
    if not whole and (base is None or digests(base, WEIGHTS) != card["base"]):
        raise RecipeError(
            "model.base",
            str(base),
            "is not the base that this model was trained from",
            f"Use the base whose files have the SHA-256 digests in {folder / CARD}",
        )
    weights, dtype = (folder, "fp32") if whole or base is None else (base, card["dtype"])
    quantization = None if plain else card["quantization"]
    if not whole and not plain and dtype == "fp32":
        dtype = "auto"  # the same numbers in less memory
    model, _ = card["objective"].model(str(weights), card["labels"], dtype=dtype, quantization=quantization)
    inject_strategies(card["strategies"], model, load_tokenizer(folder))
    parameters = dict(model.named_parameters())
    trained = set() if whole else tensor_names(folder / TRAINED)
    widen(parameters[name] for name in trained)
    is_compact = not plain and any(weight.dtype != torch.float32 for weight in parameters.values())
    if not is_compact:
        widen(parameters.values())  # so that updates can be merged without rounding
    if not whole:
        load_tensors(parameters, folder / TRAINED)
    for strategy in () if is_compact else card["strategies"]:
        strategy.merge(model)
    return model.eval()


def load_untrained(folder: Path, base: Path, seed: int) -> "PreTrainedModel":
    """Load the model of a trained folder as it was before training, in evaluation mode."""
    card = read_card(folder)
    with temporary_folder() as initial:
        parts = (card["objective"], card["strategies"], base, card["labels"], seed, initial)
        write_initial(*parts, card["dtype"], card["quantization"])
        model, _ = load_initial(base, initial, dtype=card["dtype"])
    return model.eval()


def read_card(folder: Path) -> dict[str, Any]:
    """Read a model folder's tunesmith.json, with the parts that were objects as objects again."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    scale = card.get("target_scale")  # only in trained models
    objective = TypeAdapter(Objective).validate_python(card["objective"])
    return card | {
        "target_scale": TargetScale(**scale) if scale else None,
        "asked": card.get("asked") or dict(objective.input_roles),
        "dtype": card.get("dtype", "fp32"),  # models that were trained earlier have none
        "quantization": TypeAdapter(Quantization | None).validate_python(card.get("quantization")),
        "batch_tokens": card.get("batch_tokens", BATCH_TOKENS),
        "objective": objective,
        "strategies": TypeAdapter(tuple[Strategy, ...]).validate_python(card["strategies"]),
    }


def _write_card(card: dict[str, Any], folder: Path) -> None:
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """Write tensors on any device as safetensors."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def tensor_names(path: Path) -> set[str]:
    """Return the names of the tensors in a file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as tensors:
        return set(tensors.keys())


def load_tensors(parameters: "Mapping[str, nn.Parameter]", path: Path) -> None:
    """Copy the tensors of a file into the parameters of the same name."""
    import torch
    from safetensors.torch import load_file

    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameters[name].copy_(tensor)


def copy_base(base: Path, folder: Path) -> None:
    """Copy the files of a base that determine its outputs: configuration, weights and tokenizer."""
    for name in digests(base, (*WEIGHTS, *TOKENIZER)):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(base / name, folder / name)


def frozen_format(strategies: Sequence[Strategy], dtype: "Format") -> "Format":
    """Return the format of a base's frozen matrices; fp32 if none stays frozen."""
    return "fp32" if any(strategy.trains_base for strategy in strategies) else dtype


def inject_strategies(
    strategies: Sequence[Strategy], model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> None:
    """Add the strategies' modules to a model."""
    for strategy in strategies:
        strategy.inject(model, tokenizer)


def _refuse_nothing_trainable(strategies: Sequence[Strategy], model: "PreTrainedModel", head: set[str]) -> None:
    infos = parameter_infos(model, head).values()
    if not head and not any(strategy.is_trainable(info) for strategy in strategies for info in infos):
        kinds = [strategy.kind for strategy in strategies]
        problem = "no trainable parameters: this base and objective add no head, and no strategy selects a layer"
        raise RecipeError("strategies", kinds, problem, "Add a strategy that trains something, such as full or lora")


def _refuse_trained_quantized(strategies: Sequence[Strategy], model: "PreTrainedModel", head: set[str]) -> None:
    """Raise RecipeError if a strategy selects quantised weights, which have no gradient."""
    quantized = {name for name, weight in model.named_parameters() if not weight.is_floating_point()}
    infos = [info for info in parameter_infos(model, head).values() if info.name in quantized]
    for strategy in strategies:
        selected = next((info.name for info in infos if strategy.is_trainable(info)), None)
        if selected:
            problem = f"selects {selected}, which model.quantization freezes"
            raise RecipeError("strategies", strategy.kind, problem, "Train added weights instead, such as lora")
