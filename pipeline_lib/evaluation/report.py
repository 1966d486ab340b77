"""The report of a run: one HTML page that needs nothing beside it."""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline_lib.masking import masked
from pipeline_lib.recipe import Recipe

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.25rem .75rem;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}td{font-variant-numeric:tabular-nums}img{max-width:100%}h2{margin-top:2rem}
.muted{color:#667}"""


def write_report(recipe: Recipe, scores: dict[str, Any], prepared: Path, finetuned: Path, folder: Path) -> None:
    """Write report.html: scores, labels, mistakes, data, training, figures, recipe."""
    data = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    summary = json.loads((finetuned / "summary.json").read_text(encoding="utf-8"))
    title = recipe.objective.kind.replace("_", " ").capitalize()
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _scores(scores),
        _figures(folder / "figures"),
        _per_class(scores["per_class"]),
        _predictions(folder / "predictions.parquet"),
        _data(data, prepared),
        _training(summary),
        "<h2>Recipe</h2><pre>",
        html.escape(json.dumps(masked(_told(recipe)), indent=1, ensure_ascii=False)),
        "</pre>",
    ]
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
    (folder / "report.html").write_text(page + "\n".join(parts), encoding="utf-8")


def _told(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"execution", "name"})


def number(value: float | None) -> str:
    """A score as people read it."""
    return "–" if value is None else f"{value:.4f}"


def score_rows(scores: dict[str, Any]) -> list[list[str]]:
    """A head, then each metric with its interval, the baselines' values and what it means."""
    head = ["metric", "value", f"{scores['level']:.0%} interval", *scores["baselines"], "what it means"]
    rows = [
        [
            name,
            number(s["value"]),
            f"{number(s['low'])} to {number(s['high'])}",
            *(number(baseline[name]["value"]) for baseline in scores["baselines"].values()),
            s["meaning"] + ("" if s["higher_is_better"] else " (lower is better)"),
        ]
        for name, s in scores["metrics"].items()
    ]
    return [head, *rows]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table for a model card or an orchestrator's page."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _scores(scores: dict[str, Any]) -> str:
    head, *rows = score_rows(scores)
    note = f"<p class=muted>On {scores['rows']:,} test rows; intervals by bootstrap over these rows.</p>"
    return "<h2>Scores</h2>" + note + _table(head, rows)


def _figures(folder: Path) -> str:
    images = [
        (path.stem.replace("_", " "), base64.b64encode(path.read_bytes()).decode())
        for path in sorted(folder.glob("*.png"))
    ]
    return "".join(
        f"<h2>{name.capitalize()}</h2><img alt='{name}' src='data:image/png;base64,{data}'>" for name, data in images
    )


def _per_class(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    ordered = sorted(rows, key=lambda row: row["f1"] or 0)
    cells = [
        [row["label"], *(number(row[name]) for name in ("precision", "recall", "f1")), row["support"]]
        for row in ordered
    ]
    return "<h2>By label, hardest first</h2>" + _table(["label", "precision", "recall", "F1", "rows"], cells)


def _predictions(predictions: Path) -> str:
    """The surest mistakes where the model says how sure it is, else the first predictions."""
    table = pq.read_table(predictions)
    if "prediction" not in table.column_names:
        return ""
    if "probability" not in table.column_names:
        rows = table.drop_columns(["line"]).slice(0, 20).to_pylist()
        names = list(rows[0])
        return "<h2>Predictions</h2>" + _table(names, [[str(row[name])[:500] for name in names] for row in rows])
    wrong = [row for row in table.to_pylist() if row["prediction"] != row["label"]]
    worst = sorted(wrong, key=lambda row: -row["probability"])[:20]
    cells = [[row["text"][:300], row["label"], row["prediction"], number(row["probability"])] for row in worst]
    return "<h2>Surest mistakes</h2>" + _table(["text", "label", "prediction", "probability"], cells) if worst else ""


def _data(data: dict[str, Any], prepared: Path) -> str:
    files = _table(
        ["split", "file", "rows", "unusable"],
        [[f["split"], f["file"], f"{f['rows']:,}", f"{f['unusable']:,}"] for f in data["files"]],
    )
    used = ", ".join(f"{rows:,} {split}" for split, rows in data["rows"].items())
    bad = pq.read_table(prepared / "unusable.parquet").slice(0, 100).to_pylist()
    listed = _table(["file", "line", "reason"], [list(row.values()) for row in bad]) if bad else ""
    return f"<h2>Data</h2><p>Rows used: {used}.</p>{files}{listed}"


def _training(summary: dict[str, Any]) -> str:
    return "<h2>Training</h2>" + _table(
        ["what", "value"], [[name.replace("_", " "), value] for name, value in summary.items()]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
