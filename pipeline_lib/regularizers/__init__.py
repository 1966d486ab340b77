"""Regularizers, which reduce over-fitting. To add one, write one module and add its class here.

List classes with fewer fields first: Prefect's form picks the first class whose fields all match a value.
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
    """Raise ValueError if a regularizer is repeated or conflicts with another one."""
    kinds = [regularizer.kind for regularizer in regularizers]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"regularizer {kind!r} appears {kinds.count(kind)} times. Keep one of them")
    if {"l2_sp", "weight_decay"} <= set(kinds):
        problem = "'weight_decay' pulls weights to zero and 'l2_sp' pulls them to their initial values"
        raise ValueError(f"{problem}. Remove one of them")
