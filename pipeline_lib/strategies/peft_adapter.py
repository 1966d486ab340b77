"""Inject and merge PEFT's modules, for LoRA and (IA)^3."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

INJECTING = Lock()
"""Held while a method of PEFT's is replaced."""


def wrap_modules(config: "PeftConfig", model: "PreTrainedModel") -> None:
    """Wrap the modules named in the configuration; the original becomes `base_layer` of its wrapper."""
    from peft import inject_adapter_in_model

    with _keep_adapters_in_fp32(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set")  # PEFT corrects the value itself
        warnings.filterwarnings("ignore", message=".*_pattern keys did not match")  # PEFT's own patterns for experts
        inject_adapter_in_model(config, model)


@contextmanager
def _keep_adapters_in_fp32() -> Iterator[None]:
    """Keep new adapters in fp32: PEFT would round them to the format of the weights that they update."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    with INJECTING:
        original = BaseTunerLayer._move_adapter_to_device_of_base_layer
        BaseTunerLayer._move_adapter_to_device_of_base_layer = _stay  # type: ignore[method-assign]
        try:
            yield
        finally:
            BaseTunerLayer._move_adapter_to_device_of_base_layer = original  # type: ignore[method-assign]


def _stay(self: Any, *args: Any, **options: Any) -> None:
    """Leave an adapter on its device and in its format."""


def merge(model: "PreTrainedModel") -> None:
    """Merge the learned updates into the weights, except where that would change the model's output."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        # A bottleneck adapter hooked to the base layer reads that layer's output without the update; merging would add
        # the update to its input.
        if isinstance(module, BaseTunerLayer) and not module.get_base_layer()._forward_hooks:
            module.merge()
