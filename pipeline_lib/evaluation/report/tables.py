"""Scores as rows of cells, for every page that shows them."""

from collections.abc import Iterable, Sequence
from typing import Any

FEW = 30
"""Rows below which a slice's numbers are called those of few rows."""

COLLAPSED_HINT = "Train longer, or lower training.learning_rate; a class of few rows may need more of them."


def number(value: float | None) -> str:
    """A score as people read it."""
    return "–" if value is None else f"{value:.4f}"


def interval(score: dict[str, Any]) -> str:
    """An interval as people read it; without one, why."""
    if score["low"] is None:
        return f"none ({score['no_interval']})" if score.get("no_interval") else "none"
    return f"{number(score['low'])} to {number(score['high'])}"


def over(scores: dict[str, Any]) -> str:
    """What scores and their intervals were computed on."""
    if scores["groups"] == scores["rows"]:
        return f"{scores['rows']:,} test rows; intervals by bootstrap over these rows"
    worth = f", worth {scores['effective_rows']:,} independent ones" if scores["effective_rows"] else ""
    return (
        f"{scores['rows']:,} test rows in {scores['groups']:,} groups{worth}; intervals by bootstrap over these groups"
    )


def score_rows(scores: dict[str, Any]) -> list[list[str]]:
    """A head, then each metric with its interval, the baselines' values and what it means."""
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
    """A head, then each slice with its rows and every metric in its interval."""
    rows = [
        [
            each["name"],
            f"{each['rows']:,}" + (" (few)" if each["rows"] < FEW else ""),
            *(f"{number(s['value'])} ({number(s['low'])} to {number(s['high'])})" for s in each["metrics"].values()),
        ]
        for each in scores["slices"]
    ]
    return [["slice", "rows", *scores["metrics"]], *rows]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table for a model card or an orchestrator's page."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
