"""`tunesmith compare A B`: two runs on the same test rows, and in plain words which differences are beyond chance."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline_lib.console import fail, wide
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from pipeline_lib.evaluation.outcome import Metric
    from pipeline_lib.evaluation.statistics.bootstrap import Difference

Side = Annotated[Path, typer.Argument(metavar="RECIPE_OR_FOLDER", help="A recipe that was run, or an evaluation.")]


def compare(
    a: Side,
    b: Side,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence level of the intervals.")] = 0.95,
) -> None:
    """Compare two runs on the same test rows, metric by metric, by a paired bootstrap."""
    from pipeline_lib.comparison.runs import differences, evaluated

    try:
        one, other = evaluated(a), evaluated(b)
        found = differences(one, other, level)
    except RecipeError as error:
        fail(error)
    names = (one.name, other.name) if one.name != other.name else ("A", "B")
    _show(names, len(one.scored.rows), found, level)
    typer.echo(in_words(names, found, one.metrics, level))


def _show(names: tuple[str, str], rows: int, found: "Mapping[str, Difference]", level: float) -> None:
    from rich import box
    from rich.table import Table

    from pipeline_lib.evaluation.tables import number

    table = Table(title=f"{names[0]} and {names[1]} on {rows:,} test rows", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("metric", *names, "difference", f"{level:.0%} interval"):
        table.add_column(name, overflow="fold")
    for name, each in found.items():
        ends = f"{each.low:+.4f} to {each.high:+.4f}" if each.low == each.low else "–"
        table.add_row(name, number(each.a), number(each.b), f"{each.value:+.4f}", ends)
    wide().print(table)


def in_words(
    names: tuple[str, str], found: "Mapping[str, Difference]", metrics: "Mapping[str, Metric]", level: float
) -> str:
    """Which of the differences are beyond chance, all of them together at this level."""
    sure = [name for name in found if found[name].sure]
    better = {name: (found[name].value > 0) == metrics[name].higher_is_better for name in found}
    parts = [
        f"{names[side]} is better in {_listed(name for name in sure if better[name] == bool(side))}"
        for side in (1, 0)
        if any(better[name] == bool(side) for name in sure)
    ]
    rest = [name for name in found if name not in sure]
    parts += [f"the difference in {_listed(rest)} is within chance"] if rest else []
    return f"{'; '.join(parts)} (all of this together at {level:.0%}; other training seeds are not considered)."


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
