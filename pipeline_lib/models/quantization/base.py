"""Base class of quantisations."""

from typing import Any

from pipeline_lib.util.section import Section


class QuantizationSection(Section):
    """Keeps the matrices in the blocks of a frozen base in a few bits per number.

    Embeddings, heads, biases, norms and the experts of a mixture stay as `model.dtype` has them.
    """

    kind: str

    def options(self) -> dict[str, Any]:
        """Return the arguments of transformers' BitsAndBytesConfig."""
        raise NotImplementedError
