"""Resolve which parameters are trained, with which learning rate and weight decay, and build AdamW from that table."""

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
    """One parameter of the resolved table, with AdamW's learning rate at the schedule's peak and its weight decay."""

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
    """Resolve the table of parameters.

    A parameter's learning rate is the recipe's times the scales of all strategies. The head is always trained, with the
    smallest head scale of the strategies. Biases and norms, the parameters with one dimension, have no weight decay.

    Args:
        where: Parameter -> its shape.
        strategies: The recipe's strategies.
        learning_rate: Peak learning rate of the recipe.
        weight_decay: Weight decay of trained matrices.
    """
    head_scale, table = _head_scale(strategies), []
    for parameter, shape in where.items():
        is_selected = any(strategy.is_trainable(parameter) for strategy in strategies)
        trained = parameter.is_head or (not parameter.fixed and is_selected)
        rate = learning_rate if trained else 0.0
        if parameter.is_head:
            rate *= head_scale
        for strategy in strategies:
            rate *= strategy.lr_scale(parameter)
        decay = weight_decay if trained and len(shape) > 1 else 0.0
        table.append(ParameterRow(parameter.name, tuple(shape), parameter.depth, trained, rate, decay))
    return table


def _head_scale(strategies: Sequence[Strategy]) -> float:
    return min((scale for strategy in strategies if (scale := strategy.head_lr_scale()) is not None), default=1.0)


def freeze_and_resolve(
    model: "PreTrainedModel", head: set[str], strategies: Sequence[Strategy], learning_rate: float, weight_decay: float
) -> list[ParameterRow]:
    """Freeze everything except the head and the parameters selected by a strategy; return the resolved table.

    Trained parameters are converted to fp32.
    """
    from pipeline_lib.models.half_weights import widen

    parameters, infos = dict(model.named_parameters()), parameter_infos(model, head)
    shapes = {info: tuple(parameters[name].shape) for name, info in infos.items()}
    table = resolve(shapes, strategies, learning_rate, weight_decay)
    for row in table:
        parameters[row.name].requires_grad_(row.trained)
    widen(parameters[row.name] for row in table if row.trained)
    return table


def optimizer(model: "nn.Module", table: Sequence[ParameterRow]) -> "AdamW":
    """Build AdamW (Loshchilov and Hutter 2019) with one group per learning rate and decay; `peak` keeps the rate."""
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
    """Write the table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([asdict(row) | {"shape": list(row.shape)} for row in table]), path)
