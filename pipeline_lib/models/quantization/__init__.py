"""Kinds of quantisation of a base. To add one, write one module and add its class here.

List classes with fewer fields first: Prefect's form picks the first class whose fields all match a value.
"""

from typing import Annotated

from pydantic import Field

from pipeline_lib.models.quantization.int8 import Int8
from pipeline_lib.models.quantization.nf4 import NF4

Quantization = Annotated[Int8 | NF4, Field(discriminator="kind")]
