"""Inject and merge PEFT's modules, for LoRA and (IA)^3."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


def inject(config: "PeftConfig", model: "PreTrainedModel") -> None:
    """Wrap the modules named in the configuration; the original becomes `base_layer` of its wrapper."""
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set")  # PEFT corrects the value itself
        warnings.filterwarnings("ignore", message=".*_pattern keys did not match")  # PEFT's own patterns for experts
        inject_adapter_in_model(config, model)


def merge(model: "PreTrainedModel") -> None:
    """Merge the learned updates into the weights, except where that would change the model's output."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        # A bottleneck adapter hooked to the base layer reads that layer's output without the update; merging would add
        # the update to its input.
        if isinstance(module, BaseTunerLayer) and not module.get_base_layer()._forward_hooks:
            module.merge()
