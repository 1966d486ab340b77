"""Regularizers: what holds a model back from over-fitting. To add one: write one file, add one name here."""

from typing import Annotated

from pydantic import Field

from pipeline_lib.regularizers.early_stopping import EarlyStopping
from pipeline_lib.regularizers.weight_decay import WeightDecay

Regularizer = Annotated[EarlyStopping | WeightDecay, Field(discriminator="kind")]
