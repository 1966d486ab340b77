"""Base class of quantisations."""

from typing import TYPE_CHECKING, Any

from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class QuantizationSection(Section):
    """Keeps the matrices in the blocks of a frozen base in a few bits per number.

    Embeddings, heads, biases, norms and the experts of a mixture stay as `model.dtype` has them.
    """

    kind: str

    @property
    def bits(self) -> float:
        """Bits per number, including scales."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Return the arguments of transformers' BitsAndBytesConfig."""
        raise NotImplementedError

    # imported here and not where models are loaded, so that only quantised bases depend on this code
    def loading_options(self, kind: Any, config: Any) -> dict[str, Any]:
        """Return the arguments with which a class's `from_pretrained` quantises a base while it reads it."""
        from pipeline_lib.models.quantized_weights import quantization_options

        return quantization_options(kind, config, self.kind, self.options())

    def patch(self, model: "PreTrainedModel") -> set[str]:
        """Patch the quantised layers of a model; return the names of weights that are not of the configured shape."""
        from pipeline_lib.models.quantized_weights import compute_dequantized

        return compute_dequantized(model)
