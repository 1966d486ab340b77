"""Which parameters are trained, at which rate and decay: the resolved table, and AdamW made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import ParameterInfo

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import AdamW
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ParameterRow:
    """One parameter in the resolved table; rate and decay are those of AdamW at the schedule's peak."""

    name: str
    shape: tuple[int, ...]
    depth: int
    trained: bool
    learning_rate: float
    weight_decay: float


def resolve(
    where: Mapping[ParameterInfo, Sequence[int]],
    strategies: Sequence[Strategy],
    learning_rate: float,
    weight_decay: float,
) -> list[ParameterRow]:
    """The table for parameters by place, with their shapes. Biases and norms do not decay.

    A parameter's rate is the recipe's, times the scales that all strategies give it; the head has the least of theirs.
    """
    of_head, table = _head_scale(strategies), []
    for place, shape in where.items():
        trained = place.is_head or (not place.fixed and any(strategy.is_trainable(place) for strategy in strategies))
        rate = learning_rate * (of_head if place.is_head else 1.0) if trained else 0.0
        for strategy in strategies:
            rate *= strategy.lr_scale(place)
        decay = weight_decay if trained and len(shape) > 1 else 0.0
        table.append(ParameterRow(place.name, tuple(shape), place.depth, trained, rate, decay))
    return table


def _head_scale(strategies: Sequence[Strategy]) -> float:
    return min((scale for strategy in strategies if (scale := strategy.head_lr_scale()) is not None), default=1.0)


def freeze_and_resolve(
    model: "PreTrainedModel", head: set[str], strategies: Sequence[Strategy], learning_rate: float, weight_decay: float
) -> list[ParameterRow]:
    """Freeze all but the head and what a strategy trains, and return the table."""
    parameters, where = dict(model.named_parameters()), parameter_infos(model, head)
    shapes = {place: tuple(parameters[name].shape) for name, place in where.items()}
    table = resolve(shapes, strategies, learning_rate, weight_decay)
    for row in table:
        parameters[row.name].requires_grad_(row.trained)
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
