"""Regularizers: what holds a model back from over-fitting. To add one: write one file, add one name here.

Those with fewer fields stand first: Prefect's form takes a value for the first that has all of its fields.
"""

from typing import Annotated

from pydantic import Field

from pipeline_lib.regularizers.dropout import Dropout
from pipeline_lib.regularizers.early_stopping import EarlyStopping
from pipeline_lib.regularizers.l2_sp import L2SP
from pipeline_lib.regularizers.label_smoothing import LabelSmoothing
from pipeline_lib.regularizers.mixout import Mixout
from pipeline_lib.regularizers.neftune import Neftune
from pipeline_lib.regularizers.r_drop import RDrop
from pipeline_lib.regularizers.weight_decay import WeightDecay

Regularizer = Annotated[
    WeightDecay | LabelSmoothing | Mixout | Neftune | RDrop | Dropout | L2SP | EarlyStopping,
    Field(discriminator="kind"),
]


def refuse_senseless(regularizers: tuple[Regularizer, ...]) -> None:
    """Raise ValueError where one regularizer works against another one."""
    kinds = [regularizer.kind for regularizer in regularizers]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"regularizer {kind!r} stands {kinds.count(kind)} times. Keep one of them")
    if {"l2_sp", "weight_decay"} <= set(kinds):
        raise ValueError("'weight_decay' pulls to zero what 'l2_sp' pulls to its start. Remove one of them")
