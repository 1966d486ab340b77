"""The differences between two runs, as a table and in a sentence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from math import isnan
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from pipeline_lib.comparison.runs import Evaluated, compare_metrics
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.report.tables import number
from pipeline_lib.evaluation.score_table import as_html, as_text
from pipeline_lib.evaluation.statistics.bootstrap import MetricDifference

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two runs on the same test rows, metric by metric; a difference is `sure` if it is beyond chance."""

    names: tuple[str, str]
    rows: int
    level: float
    differences: Mapping[str, MetricDifference]
    metrics: Mapping[str, Metric]

    @property
    def summary(self) -> str:
        """One sentence: which of the differences are beyond chance."""
        return describe_differences(self.names, self.differences, self.metrics, self.level)

    @property
    def frame(self) -> "pd.DataFrame":
        """One row for each metric: both values, their difference, its interval, and whether it is beyond chance."""
        import pandas as pd

        rows = {
            name: {
                "a": difference.a,
                "b": difference.b,
                "difference": difference.value,
                "low": difference.low,
                "high": difference.high,
                "beyond_chance": difference.sure,
            }
            for name, difference in self.differences.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")

    @property
    def table(self) -> Table:
        """The same values as a terminal table."""
        title = f"{self.names[0]} and {self.names[1]} on {self.rows:,} test rows"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for name in ("metric", *self.names, "difference", f"{self.level:.0%} interval"):
            table.add_column(name, overflow="fold")
        for name, difference in self.differences.items():
            a, b, low, high = difference.a, difference.b, difference.low, difference.high
            interval = "–" if isnan(low) else f"{low:+.4f} to {high:+.4f}"
            table.add_row(name, number(a), number(b), f"{difference.value:+.4f}", interval)
        return table

    def __repr__(self) -> str:
        """The table and the sentence."""
        return f"{as_text(self.table)}\n{self.summary}"

    def _repr_html_(self) -> str:
        """The table and the sentence, for notebooks."""
        return f"{as_html(self.table)}<p>{escape(self.summary)}</p>"


def comparison(a: Evaluated, b: Evaluated, level: float) -> Comparison:
    """Compare two evaluations by a paired bootstrap; raises RecipeError if their test rows differ."""
    names = (a.name, b.name) if a.name != b.name else ("A", "B")
    return Comparison(names, len(a.scored.rows), level, compare_metrics(a, b, level), a.metrics)


def describe_differences(
    names: tuple[str, str], differences: "Mapping[str, MetricDifference]", metrics: "Mapping[str, Metric]", level: float
) -> str:
    """One sentence on which differences are beyond chance, with all of them tested together at this level."""
    sure = [name for name in differences if differences[name].sure]
    b_is_better = {name: (differences[name].value > 0) == metrics[name].higher_is_better for name in differences}
    parts = []
    for side in (1, 0):
        won = [name for name in sure if b_is_better[name] == bool(side)]
        if won:
            parts.append(f"{names[side]} is better in {_join_names(won)}")
    rest = [name for name in differences if name not in sure]
    if rest:
        parts.append(f"the difference in {_join_names(rest)} is within chance")
    return f"{'; '.join(parts)} (all tested together at {level:.0%}; variation between seeds is not considered)."


def _join_names(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
