"""Load a pre-trained model with one of transformers' heads, and check that the weights fit its configuration."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import LOCAL, load_config, load_tokenizer
from pipeline_lib.models.computed_tables import computed_tables
from pipeline_lib.models.config_checks import (
    quantization_method,
    refuse_attention,
    refuse_no_layers,
    refuse_other_formats,
    refuse_quantized_base,
    refuse_token_ids,
)
from pipeline_lib.models.head_names import head_names
from pipeline_lib.models.weight_files import find_other_formats, refuse_oversized

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline_lib.models.half_weights import Format
    from pipeline_lib.models.quantization import Quantization

LOADING = Lock()
"""transformers changes process-wide state while it loads a model; a model loaded in parallel would lack weights."""
OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""What a model returns, whatever its config.json says: the logits alone, by name."""
SHOWN = 3
"""Number of parameters of each kind that an error lists."""
WITHOUT_WEIGHTS: ContextVar[bool] = ContextVar("WITHOUT_WEIGHTS", default=False)
"""Whether models are built from their configuration, without reading the files of weights."""


@contextmanager
def skip_weights() -> Iterator[None]:
    """Within it, `load_pretrained` returns models whose tensors have shapes and formats, but no values and no memory.

    Operations on them compute shapes only (torch's FakeTensorMode). Modules stay on the device and in the format in
    which they are made, as torch cannot always move such tensors.
    """
    from torch import nn
    from torch._subclasses.fake_tensor import FakeTensorMode

    apply, token = nn.Module._apply, WITHOUT_WEIGHTS.set(True)
    with LOADING:
        nn.Module._apply = lambda module, *args: module  # type: ignore[assignment,method-assign]
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):
                yield
        finally:
            nn.Module._apply = apply  # type: ignore[method-assign]
            WITHOUT_WEIGHTS.reset(token)


def load_pretrained(
    kind: Any, base: str, labels: Sequence[str] | None = None, dtype: "Format" = "fp32",
    quantization: "Quantization | None" = None, **config: Any,
) -> "tuple[PreTrainedModel, set[str]]":  # fmt: skip
    """Load a model of an Auto class from a local folder.

    Args:
        kind: An Auto class of transformers, such as AutoModelForSequenceClassification.
        base: The folder.
        labels: Names of the classes; the head gets one output for each.
        dtype: Format of the base's matrices; see `half_weights`.
        quantization: How the matrices in its blocks are quantised, if they are; see `quantized_weights`.
        config: Configuration values to override.

    Returns:
        The model, which computes in float32, and the names of the parameters missing from the folder, which form the
        new head.

    Raises:
        RecipeError: The family has no such head, or the folder's weights do not fit its configuration, so that
            parameters outside the head would be initialised randomly.
    """
    import transformers

    from pipeline_lib.models.half_weights import compute_in_full, half_format

    _silence_libraries()
    if labels is not None:
        config |= {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: index for index, name in enumerate(labels)},
        }
    config |= OUTPUTS
    known, folder = load_config(base), Path(base)
    _refuse_unsuitable(kind, base, known, config.get("attn_implementation"))
    if known.pad_token_id is None:  # decoders find the end of a row by it
        config["pad_token_id"] = load_tokenizer(folder).pad_token_id
    if WITHOUT_WEIGHTS.get():
        with refuse_oversized(folder):
            return _build(kind, base, dtype, config)
    refuse_quantized_base(base, known, again=quantization is not None)
    half = half_format(folder, dtype)
    model, report = _read(kind, base, known, half, quantization, config)
    missing, mismatched = set(report["missing_keys"]), {key[0] for key in report["mismatched_keys"]}
    new = head_names(model) | computed_tables(model)
    no_backbone = model.state_dict().keys() - new <= missing
    if half and any(parameter.dtype == half for name, parameter in model.named_parameters() if name in missing):
        return load_pretrained(kind, base, labels, "fp32", quantization, **config)  # new weights are drawn in fp32
    compute_in_full(model)
    if quantization:
        mismatched |= quantization.patch(model)
    if not quantization_method(known):
        refuse_other_formats(base, find_other_formats(folder, model))
    refuse_token_ids(base, model)
    _refuse_unfit(base, model, missing - new, mismatched - new, set(report["unexpected_keys"]), no_backbone)
    if kind in (transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM):
        _refuse_missing_output(base, model, missing)
    return model, missing | mismatched


def _silence_libraries() -> None:
    """Silence transformers' reports on problems that are checked here and on unused kernels."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # PEFT imports it if installed, and it warns about missing kernels that are not used here
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _refuse_unsuitable(kind: Any, base: str, known: Any, attention: str | None) -> None:
    """Raise RecipeError if a base's family has no such head or attention, or its configuration has no layers."""
    import transformers

    if type(known) not in kind._model_mapping:
        family, head = known.model_type, kind.__name__.removeprefix("AutoModelFor")
        raise RecipeError("model.base", base, f"is of the family {family}, which has no {head}", "Choose another base")
    if kind is transformers.AutoModelForCausalLM and _is_bidirectional(known):
        problem = f"is of the family {known.model_type}, which is bidirectional: each token sees those after it"
        raise RecipeError("model.base", base, problem, "Choose a decoder, such as GPT-2 or Llama")
    refuse_no_layers(base, known)
    refuse_attention(kind._model_mapping[type(known)], known.model_type, attention)


def _read(
    kind: Any, base: str, known: Any, half: "torch.dtype | None", quantization: "Quantization | None",
    config: dict[str, Any],
) -> "tuple[PreTrainedModel, dict[str, Any]]":  # fmt: skip
    """Read a model and transformers' report on its weights; raises RecipeError if it cannot be loaded."""
    from pipeline_lib.models.half_weights import load_matrices_in

    with LOADING, load_matrices_in(half), refuse_oversized(Path(base)):
        try:
            quantized = quantization.loading_options(kind, known) if quantization else {}
            model, report = kind.from_pretrained(
                base,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype="float32",
                **LOCAL,
                **quantized,
                **config | _backbone_key_mapping(kind, type(known)),
            )
        except RecipeError:
            raise
        except Exception as error:  # damaged weights or an invalid configuration can raise anything
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise RecipeError(
                "model.base", base, f"cannot be loaded ({reason})", "Check config.json and the weights, or replace them"
            ) from error
    return model, report


def _build(kind: Any, base: str, dtype: "Format", config: dict[str, Any]) -> "tuple[PreTrainedModel, set[str]]":
    """Build a model from its configuration; its head counts as new unless the base was saved with it."""
    from transformers import AutoConfig

    from pipeline_lib.models.half_weights import compute_in_full, half_format, keep_in

    known = AutoConfig.from_pretrained(base, **LOCAL, **config)
    model = kind.from_config(known, trust_remote_code=False)
    if half := half_format(Path(base), dtype):
        keep_in(half, model)
        compute_in_full(model)
    new = set() if type(model).__name__ in (known.architectures or ()) else head_names(model)
    return model, new & dict(model.named_parameters()).keys()


def _is_bidirectional(config: Any) -> bool:
    """Return whether a family's causal LM class attends to later tokens, as encoders do unless set to be decoders."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING as ENCODERS

    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    return not decodes and (type(config) in ENCODERS or config.model_type == "xlnet")


def _backbone_key_mapping(kind: Any, config: Any) -> dict[str, Any]:
    """Return the key mapping for a head class whose backbone prefix differs from its family's.

    LlamaForQuestionAnswering and similar classes look for `transformer.`, but the family's checkpoints have `model.`.
    """
    from transformers import AutoModel

    mapped: Any = (kind._model_mapping[config], AutoModel._model_mapping[config])
    # Funnel maps to two backbone classes
    head_class, backbone_class = (entry[0] if isinstance(entry, tuple) else entry for entry in mapped)
    head_prefix, family_prefix = head_class.base_model_prefix, backbone_class.base_model_prefix
    if head_prefix == family_prefix:
        return {}
    return {"key_mapping": {rf"^{family_prefix}\.": f"{head_prefix}."}}


def _refuse_unfit(
    base: str,
    model: "PreTrainedModel",
    missing: set[str],
    mismatched: set[str],
    unexpected: set[str],
    no_backbone: bool,
) -> None:
    """Raise RecipeError if the weights of a folder do not match its configuration.

    `no_backbone` means that the folder has no tensor of the backbone at all.
    """
    dropped = _find_dropped_layers(model, unexpected)
    if not (missing or mismatched or dropped):
        return
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    kinds = {
        "missing from the weights": missing,
        "with a different shape than in config.json": mismatched,
        "in the weights but in no layer of the model": unexpected if no_backbone else dropped,
    }
    listed = [f"{len(names)} {what}: {_list_first(names, shapes)}" for what, names in kinds.items() if names]
    if mismatched:
        hint = "config.json describes a model of another size: use the config.json saved with the weights"
    elif no_backbone:
        hint = "The weights are named for another architecture: convert them, or correct model_type in config.json"
    elif missing:
        hint = "The weights are incomplete, or config.json has too many layers: download the model again"
    else:
        hint = "config.json has fewer layers than the weights: correct it"
    problem = f"has weights that do not fit its config.json ({'; '.join(listed)})"
    raise RecipeError("model.base", base, problem, hint)


def _refuse_missing_output(base: str, model: "PreTrainedModel", missing: set[str]) -> None:
    """Raise RecipeError if a model that writes text has no weights for its output layer, as one without its head."""
    output: Any = model.get_output_embeddings()
    names = [name for name, parameter in model.named_parameters() if output is not None and parameter is output.weight]
    if lacking := sorted(missing & set(names)):
        problem = f"has no weights for its output layer ({lacking[0]})"
        hint = "Choose the base as it was saved with its language-model head, or set tie_word_embeddings: true in"
        raise RecipeError("model.base", base, problem, f"{hint} its config.json if it has none of its own")


def _find_dropped_layers(model: "PreTrainedModel", unexpected: set[str]) -> set[str]:
    """Return the unexpected tensors whose names differ from a known one only in the layer number.

    Other unexpected tensors are normal: the head of another objective, or a buffer of an older version.
    """
    known = {_mask_numbers(name) for name in model.state_dict()}
    prefix = f"{model.base_model_prefix}."
    return {
        name
        for name in unexpected
        if re.search(r"\.\d+\.", name) and {_mask_numbers(name), _mask_numbers(prefix + name)} & known
    }


def _mask_numbers(name: str) -> str:
    return re.sub(r"\.\d+\.", ".N.", name)


def _list_first(names: Iterable[str], shapes: dict[str, tuple[int, ...]]) -> str:
    """List the first few names with their shapes, if known, and the number of others."""
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(f"{name} {shapes[name]}" if name in shapes else name for name in ordered[:SHOWN]) + more
