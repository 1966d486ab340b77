"""Quantise to the 16 values of NormalFloat."""

from typing import Any, Literal

from pipeline_lib.models.quantization.base import QuantizationSection


class NF4(QuantizationSection):
    """4-bit NormalFloat: 16 values that suit normally distributed weights, and one scale for each 64 of these.

    Dettmers et al. 2023, QLoRA, section 3. Computations are in `execution.precision`.
    """

    kind: Literal["nf4"]
    double_quantization: bool = True
    """Quantise the scales too, to 8 bits: 4.13 instead of 4.5 bits per weight."""

    @property
    def bits(self) -> float:
        """Bits per number, including scales (section 3, double quantization)."""
        return 4.127 if self.double_quantization else 4.5

    def options(self) -> dict[str, Any]:
        """Return the arguments of transformers' BitsAndBytesConfig."""
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": self.double_quantization,
        }
