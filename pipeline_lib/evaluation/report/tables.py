"""Tables of scores as rows of cells, shared by the report, the model card and the orchestrator's pages."""

from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 120
"""Minimum width of tables in characters, even if the terminal is narrower."""
FEW = 30
"""Slices with fewer rows are marked as such."""

COLLAPSED_HINT = "Train longer or lower training.learning_rate; rare classes may need more rows."


def number(value: float | None) -> str:
    """Format a score."""
    return "–" if value is None else f"{value:.4f}"


def interval(score: dict[str, Any]) -> str:
    """Format an interval, or say why there is none."""
    if score["low"] is None:
        return f"none ({score['no_interval']})" if score.get("no_interval") else "none"
    return f"{number(score['low'])} to {number(score['high'])}"


def describe_rows(scores: dict[str, Any]) -> str:
    """Describe the rows that scores and intervals were computed on."""
    if scores["groups"] == scores["rows"]:
        return f"{scores['rows']:,} test rows; intervals by bootstrap over these rows"
    effective = f" (effectively {scores['effective_rows']:,} independent rows)" if scores["effective_rows"] else ""
    rows = f"{scores['rows']:,} test rows in {scores['groups']:,} groups{effective}"
    return f"{rows}; intervals by bootstrap over these groups"


def score_rows(scores: dict[str, Any]) -> list[list[str]]:
    """A header, then one row per metric with its interval, the baselines' values and its meaning."""
    head = ["metric", "value", f"{scores['level']:.0%} interval", *scores["baselines"], "what it means"]
    rows = [
        [
            name,
            number(s["value"]),
            interval(s),
            *(number(baseline[name]["value"]) for baseline in scores["baselines"].values()),
            s["meaning"] + ("" if s["higher_is_better"] else " (lower is better)"),
        ]
        for name, s in scores["metrics"].items()
    ]
    return [head, *rows]


def slice_rows(scores: dict[str, Any]) -> list[list[str]]:
    """A header, then one row per slice with its number of rows and every metric with its interval."""
    rows = [
        [
            part["name"],
            f"{part['rows']:,}" + (" (few)" if part["rows"] < FEW else ""),
            *(f"{number(s['value'])} ({number(s['low'])} to {number(s['high'])})" for s in part["metrics"].values()),
        ]
        for part in scores["slices"]
    ]
    return [["slice", "rows", *scores["metrics"]], *rows]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a table in Markdown, for a model card or an orchestrator's page."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
