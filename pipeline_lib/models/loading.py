"""A pre-trained model with a head of transformers' own on top."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import LOCAL, load_config, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOADING = Lock()
"""transformers changes how the whole process makes models while it loads one: a second thread's would lack weights."""
SHOWN = 3
"""Parameters of each kind that an error names."""


def pretrained(
    kind: Any, base: str, labels: Sequence[str] | None = None, **config: Any
) -> "tuple[PreTrainedModel, set[str]]":
    """Load a model of an Auto class from a local folder.

    Args:
        kind: An Auto class of transformers, such as AutoModelForSequenceClassification.
        base: The folder.
        labels: Names of the classes; the head gets one output for each.
        config: Values of the model's configuration to override.

    Returns:
        The model in float32, and the names of the parameters that the folder does not hold: those of a new head.

    Raises:
        RecipeError: The family has no such head, or the folder's weights do not fit its configuration, so that other
            parameters than the head's would start from random numbers.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()  # what its loading report says is checked below
    transformers.utils.logging.disable_progress_bar()
    if labels is not None:
        config |= {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: index for index, name in enumerate(labels)},
        }
    known = load_config(base)
    if type(known) not in kind._model_mapping:
        family, head = known.model_type, kind.__name__.removeprefix("AutoModelFor")
        raise RecipeError("model.base", base, f"is of the family {family}, which has no {head}", "Choose another base")
    if kind is transformers.AutoModelForCausalLM and _sees_what_follows(known):
        problem = f"is of the family {known.model_type}, which reads each token together with those that follow it"
        raise RecipeError("model.base", base, problem, "Choose a decoder, such as GPT-2 or Llama")
    if known.pad_token_id is None:  # decoders find a row's end by it
        config["pad_token_id"] = load_tokenizer(Path(base)).pad_token_id
    config |= _renamed_backbone(kind, type(known))
    with LOADING:
        try:
            model, report = kind.from_pretrained(
                base, ignore_mismatched_sizes=True, output_loading_info=True, dtype="float32", **LOCAL, **config
            )
        except Exception as error:  # damaged weights or a senseless configuration raise whatever they happen to break
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise RecipeError(
                "model.base", base, f"cannot be loaded ({reason})", "Check config.json and the weights, or replace them"
            ) from error
    missing, mismatched = set(report["missing_keys"]), {key[0] for key in report["mismatched_keys"]}
    new = _head_names(model) | _computed_names(model)
    nothing_found = model.state_dict().keys() - new <= missing
    _refuse_unfit(base, model, missing - new, mismatched - new, set(report["unexpected_keys"]), nothing_found)
    return model, missing | mismatched


def _sees_what_follows(config: Any) -> bool:
    """Whether a family's class for the next token attends to all tokens, as encoders do that were not made decoders."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING as ENCODERS

    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    return not decodes and (type(config) in ENCODERS or config.model_type == "xlnet")


def _renamed_backbone(kind: Any, config: Any) -> dict[str, Any]:
    """How to find the backbone's weights where a head's class calls the backbone otherwise than its family does.

    LlamaForQuestionAnswering and its kin look for `transformer.`, and every checkpoint of the family has `model.`.
    """
    from transformers import AutoModel

    known: Any = (kind._model_mapping[config], AutoModel._model_mapping[config])
    classes = [found[0] if isinstance(found, tuple) else found for found in known]  # Funnel has two backbones
    here, usual = (found.base_model_prefix for found in classes)
    return {} if here == usual else {"key_mapping": {rf"^{usual}\.": f"{here}."}}


def _head_names(model: "PreTrainedModel") -> set[str]:
    """Names of all parameters and buffers that may be new: those on top of the backbone, and its pooler.

    A checkpoint that was pre-trained without a pooler (RoBERTa, or BERT saved for masked language modelling) lacks it;
    transformers counts it among the backbone's modules, but it is read by the head alone.
    """
    backbone = backbone_modules(model)
    return {name for name in model.state_dict() if not name.startswith(backbone) or ".pooler." in f".{name}"}


def _computed_names(model: "PreTrainedModel") -> set[str]:
    """Names of position tables that are computed and therefore often not saved (Marian, Pegasus)."""
    return {f"{name}.weight" for name, module in model.named_modules() if "Sinusoidal" in type(module).__name__}


def backbone_modules(model: "PreTrainedModel") -> tuple[str, ...]:
    """Prefixes of the names that belong to the pre-trained backbone."""
    import torch
    from transformers import AutoModel

    prefix = model.base_model_prefix
    if prefix and hasattr(model, prefix):
        return (f"{prefix}.",)
    # T5 and its kin have the backbone's modules in their own top level; the bare model of the family says which
    with torch.device("meta"):  # names alone: no memory, no time
        bare = AutoModel.from_config(model.config, trust_remote_code=False)
    return tuple(f"{name}." for name, _ in bare.named_children())


def _refuse_unfit(
    base: str,
    model: "PreTrainedModel",
    missing: set[str],
    mismatched: set[str],
    unexpected: set[str],
    nothing_found: bool,
) -> None:
    """Raise RecipeError where the weights of a folder are not those of the model that its configuration describes.

    `nothing_found` says that the folder holds no tensor of the backbone at all.
    """
    dropped = _of_dropped_layers(model, unexpected)
    if not (missing or mismatched or dropped):
        return
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    kinds = {
        "missing from the weights": missing,
        "of another shape than config.json says": mismatched,
        "in the weights and in no layer of the model": unexpected if nothing_found else dropped,
    }
    listed = [f"{len(names)} {what}: {_first(names, shapes)}" for what, names in kinds.items() if names]
    if mismatched:
        hint = "config.json is of another size than the weights: use the one they were saved with"
    elif nothing_found:
        hint = "The weights have other names than the architecture: convert them, or correct model_type in config.json"
    elif missing:
        hint = "The file is incomplete, or config.json names more layers than it holds: download the model again"
    else:
        hint = "config.json names fewer layers than the weights hold: correct it"
    problem = f"holds weights that do not fit its config.json ({'; '.join(listed)})"
    raise RecipeError("model.base", base, problem, hint)


def _of_dropped_layers(model: "PreTrainedModel", unexpected: set[str]) -> set[str]:
    """Unexpected tensors that differ from a known one by a layer's number alone.

    Other unexpected tensors are usual: the head of another objective, or a buffer of an older version.
    """
    known = {_without_numbers(name) for name in model.state_dict()}
    prefix = f"{model.base_model_prefix}."
    return {
        name
        for name in unexpected
        if re.search(r"\.\d+\.", name) and {_without_numbers(name), _without_numbers(prefix + name)} & known
    }


def _without_numbers(name: str) -> str:
    return re.sub(r"\.\d+\.", ".N.", name)


def _first(names: Iterable[str], shapes: dict[str, tuple[int, ...]]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(f"{name} {shapes[name]}" if name in shapes else name for name in shown[:SHOWN]) + more
