"""The scores of an evaluation as a terminal table, a DataFrame or HTML."""

import json
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline_lib.evaluation.report.tables import WIDTH, number

if TYPE_CHECKING:
    import pandas as pd


def score_table(folder: Path) -> Table:
    """A table of the metrics in an evaluation's folder, with intervals, baselines and meanings."""
    scores = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    table = Table(title=f"Scores on {scores['rows']:,} test rows", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("metric", "score", f"{scores['level']:.0%} interval", *scores["baselines"]):
        table.add_column(name.replace("_", " "), no_wrap=True)
    table.add_column("what it means")
    for name, score in scores["metrics"].items():
        others = (number(baseline[name]["value"]) for baseline in scores["baselines"].values())
        table.add_row(
            name, number(score["value"]), f"{number(score['low'])} – {number(score['high'])}", *others, score["meaning"]
        )
    return table


def score_frame(folder: Path) -> "pd.DataFrame":
    """The same scores as a DataFrame indexed by metric."""
    import pandas as pd

    scores = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    rows = {}
    for name, score in scores["metrics"].items():
        row = {column: score[column] for column in ("value", "low", "high")}
        row |= {baseline: metrics[name]["value"] for baseline, metrics in scores["baselines"].items()}
        rows[name] = row | {"meaning": score["meaning"]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def as_text(table: Table) -> str:
    """Render a table as plain text, for a `repr`."""
    text = StringIO()
    Console(file=text, width=WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())


def as_html(table: Table) -> str:
    """Render a table as HTML, for notebooks."""
    head = "".join(f"<th>{escape(str(column.header))}</th>" for column in table.columns)
    rows = zip(*(column.cells for column in table.columns))
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    caption = f"<caption>{escape(str(table.title))}</caption>" if table.title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
