"""Quantise to 8 bits, row by row."""

from typing import Any, Literal

from pipeline_lib.models.quantization.base import QuantizationSection


class Int8(QuantizationSection):
    """Integers of 8 bits with one scale per row: the weights of LLM.int8() (Dettmers et al. 2022, section 2.1).

    Inputs are not quantised: computations are in `execution.precision`.
    """

    kind: Literal["int8"]

    @property
    def bits(self) -> float:
        """Bits per number; the few scales of rows are not counted."""
        return 8.0

    def options(self) -> dict[str, Any]:
        """Return the arguments of transformers' BitsAndBytesConfig."""
        return {"load_in_8bit": True}
