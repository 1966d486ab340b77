"""Resolve which parameters are trained, with which learning rate and weight decay, and group them by that."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.models.parameter_depth import parameter_infos, shape_of
from pipeline_lib.optimizers.base import Group
from pipeline_lib.strategies import Strategy
from pipeline_lib.strategies.base import ParameterInfo

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of the resolved table, with the learning rate at the schedule's peak and its weight decay."""

    name: str
    shape: tuple[int, ...]
    depth: int
    trained: bool
    learning_rate: float
    weight_decay: float


def resolve(
    infos: Mapping[ParameterInfo, Sequence[int]],
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
    for parameter, shape in infos.items():
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
    shapes = {info: shape_of(parameters[name]) for name, info in infos.items()}
    table = resolve(shapes, strategies, learning_rate, weight_decay)
    for row in table:
        parameters[row.name].requires_grad_(row.trained)
    widen(parameters[row.name] for row in table if row.trained)
    return table


def groups(model: "PreTrainedModel", table: Sequence[ParameterRow], head: Collection[str]) -> list[Group]:
    """Return the trained parameters, one group for each learning rate, weight decay and place in the model."""
    parameters, outer = dict(model.named_parameters()), _outer(model) | set(head)
    by_key: dict[tuple[float, float, bool], list[str]] = {}
    for row in table:
        if row.trained:
            hidden = len(row.shape) == 2 and row.name not in outer
            by_key.setdefault((row.learning_rate, row.weight_decay, hidden), []).append(row.name)
    return [Group([parameters[name] for name in names], *key) for key, names in by_key.items()]


def _outer(model: "PreTrainedModel") -> set[str]:
    """Return the names of embeddings, and of the layer that turns hidden states into tokens."""
    from torch import nn

    modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    modules += [module for module in [model.get_output_embeddings()] if module is not None]
    weights = {id(weight) for module in modules for weight in module.parameters()}
    return {name for name, weight in model.named_parameters() if id(weight) in weights}


def write_table(table: Sequence[ParameterRow], path: Path) -> None:
    """Write the table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([asdict(row) | {"shape": list(row.shape)} for row in table]), path)
