"""Strategies: what is trained, and how fast. To add one: write one file with the hooks it needs, add one name here.

Those with fewer fields stand first: Prefect's form takes a value for the first that has all of its fields.
"""

from typing import Annotated

from pydantic import Field

from pipeline_lib.strategies.bottleneck import Bottleneck
from pipeline_lib.strategies.full import Full
from pipeline_lib.strategies.ia3 import IA3
from pipeline_lib.strategies.layerwise_lr import LayerwiseLR
from pipeline_lib.strategies.lora import LoRA
from pipeline_lib.strategies.partial import Partial
from pipeline_lib.strategies.prompt import SoftPrompt

Strategy = Annotated[
    Full | IA3 | LayerwiseLR | Partial | LoRA | Bottleneck | SoftPrompt,
    Field(discriminator="kind"),
]


def refuse_senseless(strategies: tuple[Strategy, ...]) -> None:
    """Raise ValueError where one strategy makes another one pointless."""
    by_kind = {strategy.kind: strategy for strategy in strategies}
    kinds = [strategy.kind for strategy in strategies]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"strategy {kind!r} stands {kinds.count(kind)} times. Keep one of them")
    if {"full", "partial"} <= by_kind.keys() and by_kind["full"].start_epoch <= by_kind["partial"].start_epoch:
        raise ValueError("'full' already trains all that 'partial' picks. Remove one of them")
    for kind in ("lora", "ia3", "bottleneck"):
        if {"full", kind} <= by_kind.keys():
            raise ValueError(f"'full' already trains the weights that {kind!r} would stand in for. Remove one of them")
    if {"lora", "ia3"} <= by_kind.keys():
        raise ValueError("'lora' and 'ia3' would both wrap the same weights, and PEFT merges one. Remove one of them")
    if "layerwise_lr" in by_kind and all(_trains_nothing(strategy) for strategy in strategies):
        problem = "'layerwise_lr' has nothing below the head to scale"
        raise ValueError(f"{problem}. Add a strategy that trains something, such as full")


def _trains_nothing(strategy: Strategy) -> bool:
    return isinstance(strategy, LayerwiseLR) or (isinstance(strategy, Partial) and strategy.is_bare)
