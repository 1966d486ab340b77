"""What LoRA and (IA)^3 share: PEFT writes their modules into a model, and folds them into its weights."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


def inject(config: "PeftConfig", model: "PreTrainedModel") -> None:
    """Wrap the modules that the configuration names; a wrapped one goes on as `base_layer` of its wrapper."""
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set")  # PEFT sets it right by itself
        warnings.filterwarnings("ignore", message=".*_pattern keys did not match")  # PEFT's own, for experts
        inject_adapter_in_model(config, model)


def merge(model: "PreTrainedModel") -> None:
    """Fold what was learned into the weights, where that changes no output."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        # where an adapter hangs on the wrapped layer, it reads what that puts out alone: merging would change it
        if isinstance(module, BaseTunerLayer) and not module.get_base_layer()._forward_hooks:
            module.merge()
