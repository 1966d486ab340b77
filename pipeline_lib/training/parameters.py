"""Which parameters are trained, at which rate and decay: the resolved table, and AdamW made from it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.models.places import places
from pipeline_lib.strategies import Strategy

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import AdamW


@dataclass(frozen=True)
class ParameterRow:
    """One parameter in the resolved table; rate and decay are those of AdamW at the schedule's peak."""

    name: str
    shape: tuple[int, ...]
    depth: int
    trained: bool
    learning_rate: float
    weight_decay: float


def thaw(
    model: "nn.Module", head: set[str], strategies: Sequence[Strategy], learning_rate: float, weight_decay: float
) -> list[ParameterRow]:
    """Freeze all but the head and what a strategy trains, and return the table. Biases and norms do not decay.

    A parameter's rate is the recipe's, times the scales that all strategies give it; the head has the least of theirs.
    """
    where, table = places(model, head), []
    of_head = min((scale for strategy in strategies if (scale := strategy.head_scale()) is not None), default=1.0)
    for name, parameter in model.named_parameters():
        place = where[name]
        trained = place.is_head or any(strategy.trains(place) for strategy in strategies)
        parameter.requires_grad_(trained)
        rate = learning_rate * (of_head if place.is_head else 1.0) if trained else 0.0
        for strategy in strategies:
            rate *= strategy.lr_scale(place)
        decay = weight_decay if trained and parameter.ndim > 1 else 0.0
        table.append(ParameterRow(name, tuple(parameter.shape), place.depth, trained, rate, decay))
    return table


def optimizer(model: "nn.Module", table: Sequence[ParameterRow]) -> "AdamW":
    """AdamW (Loshchilov and Hutter 2019) with one group for each pair of rate and decay; `peak` holds its rate."""
    from torch.optim import AdamW

    parameters = dict(model.named_parameters())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for row in table:
        if row.trained:
            groups.setdefault((row.learning_rate, row.weight_decay), []).append(parameters[row.name])
    return AdamW(
        [
            {"params": members, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), members in groups.items()
        ],
        fused=True,
    )


def write_table(table: Sequence[ParameterRow], path: Path) -> None:
    """The table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([asdict(row) | {"shape": list(row.shape)} for row in table]), path)
