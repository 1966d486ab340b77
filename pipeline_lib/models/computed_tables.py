"""Find position tables whose values are computed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def computed_tables(model: "PreTrainedModel") -> set[str]:
    """Return the names of position tables that are computed: never learned, and often not saved (Marian, Pegasus)."""
    return {f"{name}.weight" for name, module in model.named_modules() if "Sinusoidal" in type(module).__name__}
