"""Strategies: what is trained, and how fast. To add one: write one file with the three hooks, add one name here."""

from typing import Annotated

from pydantic import Field

from pipeline_lib.strategies.full import Full
from pipeline_lib.strategies.partial import Partial

Strategy = Annotated[Full | Partial, Field(discriminator="kind")]


def refuse_senseless(strategies: tuple[Strategy, ...]) -> None:
    """Raise ValueError where one strategy makes another one pointless."""
    kinds = [strategy.kind for strategy in strategies]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"strategy {kind!r} stands {kinds.count(kind)} times. Keep one of them")
    if {"full", "partial"} <= set(kinds):
        raise ValueError("'full' already trains all that 'partial' picks. Remove one of them")
