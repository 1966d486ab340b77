"""Strategies: which parameters are trained, and at what rate. To add one, write one module and add its class here.

List classes with fewer fields first: Prefect's form picks the first class whose fields all match a value.
"""

from typing import Annotated

from pydantic import Field

from pipeline_lib.errors import RecipeError
from pipeline_lib.strategies.bottleneck import Bottleneck
from pipeline_lib.strategies.full import Full
from pipeline_lib.strategies.ia3 import IA3
from pipeline_lib.strategies.layerwise_lr import LayerwiseLR
from pipeline_lib.strategies.ln_tuning import LNTuning
from pipeline_lib.strategies.lora import LoRA
from pipeline_lib.strategies.partial import Partial
from pipeline_lib.strategies.prompt import SoftPrompt

Strategy = Annotated[
    Full | IA3 | LNTuning | LayerwiseLR | Partial | LoRA | Bottleneck | SoftPrompt,
    Field(discriminator="kind"),
]


def refuse_senseless(strategies: tuple[Strategy, ...]) -> None:
    """Raise ValueError if a strategy is repeated or makes another one pointless."""
    by_kind = {strategy.kind: strategy for strategy in strategies}
    kinds = [strategy.kind for strategy in strategies]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"strategy {kind!r} appears {kinds.count(kind)} times. Keep one of them")
    for kind in ("partial", "ln_tuning"):
        if {"full", kind} <= by_kind.keys() and by_kind["full"].start_epoch <= by_kind[kind].start_epoch:
            raise ValueError(f"'full' already trains everything that {kind!r} selects. Remove one of them")
    for kind in ("lora", "ia3", "bottleneck"):
        if {"full", kind} <= by_kind.keys():
            raise ValueError(f"'full' already trains the weights that {kind!r} is a substitute for. Remove one of them")
    if {"lora", "ia3"} <= by_kind.keys():
        problem = "'lora' and 'ia3' would both wrap the same weights, and PEFT merges only one of them"
        raise ValueError(f"{problem}. Remove one of them")
    if "layerwise_lr" in by_kind and all(_trains_nothing(strategy) for strategy in strategies):
        problem = "'layerwise_lr' has nothing below the head to scale"
        raise ValueError(f"{problem}. Add a strategy that trains something, such as full")


def refuse_quantized(strategies: tuple[Strategy, ...]) -> None:
    """Raise RecipeError if a strategy cannot be used with a quantised base."""
    for index, strategy in enumerate(strategies):
        if reason := strategy.why_not_quantized():
            hint = "Train added weights instead, such as lora, or remove model.quantization"
            raise RecipeError(f"strategies.{index}", strategy.kind, reason, hint)


def _trains_nothing(strategy: Strategy) -> bool:
    return isinstance(strategy, LayerwiseLR) or (isinstance(strategy, Partial) and strategy.is_bare)
