"""Settings of the recipe section `model`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
)

from pipeline_lib.models.quantization import Quantization
from pipeline_lib.util.section import Reach, Section, is_folder


class Model(Section):
    """Pre-trained model to fine-tune."""

    base: Annotated[str, Field(min_length=1), Reach.BASE]
    """A folder, a hub id such as `org/name`, or `package:NAME/folder` for a model inside a Python package."""
    revision: str | None = None
    """Branch, tag or commit on the hub; pin a commit to always get the same files."""

    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format in which frozen matrices are kept in memory. auto: that of the base's files, which changes no
    result; bf16 and fp16 round a base in another format. Trained weights are in fp32; `execution.precision` sets the
    format of computations."""
    quantization: Quantization | None = None
    """Keep the matrices in the base's blocks in 4 bits (nf4) or 8 bits (int8), with added weights on top; needs the
    extra `quantization`. Empty: keep them as `dtype` says."""

    @field_validator("base")
    @classmethod
    def _resolve_base(cls, base: str, info: ValidationInfo) -> str:
        beside = Path((info.context or {}).get("folder", "")) / base
        return str(beside) if is_folder(beside) or base.startswith(".") else base
