"""A pre-trained model with a head of transformers' own on top."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOADING = Lock()
"""transformers changes how the whole process makes models while it loads one: a second thread's would lack weights."""


def pretrained(
    kind: Any, base: str, labels: Sequence[str] | None = None, **config: Any
) -> "tuple[PreTrainedModel, set[str]]":
    """A model of an Auto class from a local folder, and the names of its new parameters.

    With `labels` its head gets one output for each. Raises RecipeError where the family has no such head.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()  # it warns of the new head, which is as it should be
    transformers.utils.logging.disable_progress_bar()
    if labels is not None:
        config |= {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: index for index, name in enumerate(labels)},
        }
    known = transformers.AutoConfig.from_pretrained(base, local_files_only=True)
    if type(known) not in kind._model_mapping:
        family, head = known.model_type, kind.__name__.removeprefix("AutoModelFor")
        raise RecipeError("model.base", base, f"is of the family {family}, which has no {head}", "Choose another base")
    if known.pad_token_id is None:  # decoders find a row's end by it
        config["pad_token_id"] = load_tokenizer(Path(base)).pad_token_id
    with LOADING:
        model, told = kind.from_pretrained(
            base,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
            dtype="float32",
            **config,
        )
    return model, {*told["missing_keys"], *(key[0] for key in told["mismatched_keys"])}
