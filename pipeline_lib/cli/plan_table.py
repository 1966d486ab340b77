"""The output of `tunesmith plan`: tables, or JSON for programs."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline_lib.cli.console import wide
from pipeline_lib.pipeline.plan import Plan, format_plan
from pipeline_lib.training.parameters import ParameterRow

if TYPE_CHECKING:
    from pipeline_lib.pipeline.plan_memory import MemoryPlan


def print_plan(plan: Plan, every: bool, memory: "MemoryPlan | None" = None) -> None:
    """Print the steps, the parameters, grouped by layer or (with `every`) one by one, and the memory."""
    console = Console()
    for line in format_plan(plan.planned):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if plan.detects:
        console.print(f"{plan.detects}.", highlight=False, soft_wrap=True, markup=False)
    if plan.parameters:
        wide().print(_parameters(plan.parameters) if every else _layers(plan.parameters))
    else:
        console.print("Parameters and their rates are known once the step initialise has run.", soft_wrap=True)
    for line in memory.lines() if memory else ():
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def as_json(plan: Plan, memory: "MemoryPlan | None" = None) -> dict[str, Any]:
    """Return the steps with status, fingerprint and reason, a row for every parameter, and bytes of memory."""
    steps = []
    for step in plan.planned:
        document = {"step": step.step}
        if step.of:
            document["file"] = step.of
        fingerprint = step.artifact.fingerprint if step.artifact else None
        steps.append({**document, "status": step.status, "fingerprint": fingerprint, "why": step.why})
    shown: dict[str, Any] = {
        "steps": steps,
        "detects": plan.detects,
        "parameters": [vars(row) | {"shape": list(row.shape)} for row in plan.parameters],
    }
    return shown | {"memory": memory._asdict() | {"need": memory.need._asdict()}} if memory else shown


def _layers(rows: Sequence[ParameterRow]) -> Table:
    """Return a table with one line for the parameters of equal depth, rate and weight decay."""
    table = _table("depth", "tensors", "parameters", "rate", "weight decay", "such as")
    for key, group in groupby(sorted(rows, key=_alike), key=_alike):
        members = list(group)
        count = sum(math.prod(row.shape) for row in members)
        table.add_row(str(key[0]), str(len(members)), f"{count:,}", *_rate(members[0]), members[0].name)
    total = sum(math.prod(row.shape) for row in rows)
    trained = sum(math.prod(row.shape) for row in rows if row.trained)
    table.caption = f"{trained:,} of {total:,} parameters are trained ({trained / total:.2%}); depth 0: embeddings"
    return table


def _alike(row: ParameterRow) -> tuple[int, bool, float, float]:
    return row.depth, not row.trained, row.learning_rate, row.weight_decay


def _parameters(rows: Sequence[ParameterRow]) -> Table:
    table = _table("parameter", "shape", "rate", "weight decay")
    for row in rows:
        table.add_row(row.name, "×".join(map(str, row.shape)), *_rate(row))
    return table


def _rate(row: ParameterRow) -> tuple[str, str]:
    return (f"{row.learning_rate:.3g}", f"{row.weight_decay:.3g}") if row.trained else ("frozen", "")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    for name in columns:
        table.add_column(name, justify="right" if name in ("tensors", "parameters", "rate", "weight decay") else "left")
    return table
