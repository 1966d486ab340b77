"""Optimizers. To add one, write one module and add its class here.

List classes with fewer fields first: Prefect's form picks the first class whose fields all match a value.
"""

from typing import Annotated

from pydantic import Field

from pipeline_lib.optimizers.adafactor import Adafactor
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.adamw_8bit import AdamW8Bit
from pipeline_lib.optimizers.muon import Muon
from pipeline_lib.optimizers.sgd import SGD

Optimizer = Annotated[Adafactor | Muon | SGD | AdamW | AdamW8Bit, Field(discriminator="kind")]
