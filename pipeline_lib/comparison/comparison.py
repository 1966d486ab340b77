"""The differences between two runs, as a table and in a sentence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from pipeline_lib.comparison.runs import Evaluated, differences
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.report.tables import number
from pipeline_lib.evaluation.score_table import as_html, as_text
from pipeline_lib.evaluation.statistics.bootstrap import Difference

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two runs on the same test rows, metric by metric; a difference is `sure` if it is beyond chance."""

    names: tuple[str, str]
    rows: int
    level: float
    differences: Mapping[str, Difference]
    metrics: Mapping[str, Metric]

    @property
    def summary(self) -> str:
        """One sentence: which of the differences are beyond chance."""
        return in_words(self.names, self.differences, self.metrics, self.level)

    @property
    def frame(self) -> "pd.DataFrame":
        """One row for each metric: both values, their difference, its interval, and whether it is beyond chance."""
        import pandas as pd

        rows = {
            name: {"a": found.a, "b": found.b, "difference": found.value, "low": found.low, "high": found.high}
            | {"beyond_chance": found.sure}
            for name, found in self.differences.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")

    @property
    def table(self) -> Table:
        """The same values as a terminal table."""
        title = f"{self.names[0]} and {self.names[1]} on {self.rows:,} test rows"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for name in ("metric", *self.names, "difference", f"{self.level:.0%} interval"):
            table.add_column(name, overflow="fold")
        for name, found in self.differences.items():
            # nan if there is no interval
            interval = f"{found.low:+.4f} to {found.high:+.4f}" if found.low == found.low else "–"
            table.add_row(name, number(found.a), number(found.b), f"{found.value:+.4f}", interval)
        return table

    def __repr__(self) -> str:
        """The table and the sentence."""
        return f"{as_text(self.table)}\n{self.summary}"

    def _repr_html_(self) -> str:
        """The table and the sentence, for notebooks."""
        return f"{as_html(self.table)}<p>{escape(self.summary)}</p>"


def comparison(a: Evaluated, b: Evaluated, level: float) -> Comparison:
    """Compare two evaluations by a paired bootstrap; raises RecipeError if their test rows differ."""
    found = differences(a, b, level)
    names = (a.name, b.name) if a.name != b.name else ("A", "B")
    return Comparison(names, len(a.scored.rows), level, found, a.metrics)


def in_words(
    names: tuple[str, str], found: "Mapping[str, Difference]", metrics: "Mapping[str, Metric]", level: float
) -> str:
    """One sentence on which differences are beyond chance, with all of them tested together at this level."""
    sure = [name for name in found if found[name].sure]
    better = {name: (found[name].value > 0) == metrics[name].higher_is_better for name in found}
    parts = [
        f"{names[side]} is better in {_listed(name for name in sure if better[name] == bool(side))}"
        for side in (1, 0)
        if any(better[name] == bool(side) for name in sure)
    ]
    rest = [name for name in found if name not in sure]
    parts += [f"the difference in {_listed(rest)} is within chance"] if rest else []
    return f"{'; '.join(parts)} (all tested together at {level:.0%}; variation between seeds is not considered)."


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
