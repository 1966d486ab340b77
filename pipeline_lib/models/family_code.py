"""Find functions in the code of a model's family."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def family_function(model: "PreTrainedModel", name: str) -> Any:
    """Return a function of the module that defines a model's class; None if it has no such function.

    The class of a sharded model is torch's, and derives from the family's.
    """
    modules = (sys.modules[kind.__module__] for kind in type(model).__mro__)
    return next((found for module in modules if (found := getattr(module, name, None))), None)
