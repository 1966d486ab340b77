"""What a decoder reads to predict its targets."""

from typing import TYPE_CHECKING, Any

from pipeline_lib.models.family_code import family_function

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def decoder_inputs(model: "PreTrainedModel", targets: "Tensor") -> "Tensor":
    """Return the targets [rows, tokens], shifted one position to the right, after the decoder start token.

    Most families have a method for it; M2M100, NLLB and Blenderbot have a function in the model's module.
    """
    shifting: Any = model
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return shifting.prepare_decoder_input_ids_from_labels(targets)
    config: Any = model.config
    shift = family_function(model, "shift_tokens_right")
    return shift(targets, config.pad_token_id, config.decoder_start_token_id)
