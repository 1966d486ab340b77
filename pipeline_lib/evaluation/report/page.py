"""Write the report of a run as one self-contained HTML page."""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline_lib.evaluation.report.tables import COLLAPSED_HINT, FEW, number, over, score_rows, slice_rows
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.util.redaction import redact

STYLE = """*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;max-width:84rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;
overflow-wrap:anywhere}
table{border-collapse:collapse;margin:.5rem 0 1.5rem;max-width:100%}
td,th{padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
td{font-variant-numeric:tabular-nums}img{max-width:100%;height:auto}h2{margin-top:2rem}
pre{white-space:pre-wrap}.muted{color:#667}
@media(min-width:901px){.examples td{min-width:4.5rem}.scores td:not(:last-child),.scores th{white-space:nowrap}}
@media(max-width:900px){
.scores tr{display:grid;grid-template-columns:2fr repeat(var(--narrow),1.2fr);border-bottom:1px solid #ddd}
.scores td,.scores th{border:0;padding:.1rem .4rem .1rem 0}
.scores td:last-child{grid-column:1/-1;color:#667;font-size:13px}.scores th:last-child{display:none}
.slices tr:first-child,.examples tr:first-child{display:none}
.slices tr,.examples tr{display:block;border-bottom:1px solid #ddd;padding:.4rem 0}
.slices td,.examples td{display:grid;grid-template-columns:10rem 1fr;gap:.5rem;border:0;padding:0}
.slices td::before,.examples td::before{content:attr(data-name);color:#667}}"""
"""On narrow pages, such as MLflow's artifact pane, a row with many columns becomes lines of name and value, and the
meaning of a metric goes below its scores."""


def write_report(recipe: Recipe, scores: dict[str, Any], prepared: Path, finetuned: Path, folder: Path) -> None:
    """Write report.html: scores, figures, labels, examples, checks, data, training and recipe."""
    data = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    summary = json.loads((finetuned / "summary.json").read_text(encoding="utf-8"))
    title = recipe.objective.kind.replace("_", " ").capitalize()
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _scores(scores),
        _slices(scores),
        _figures(folder / "figures"),
        _per_class(scores["per_class"]),
        _examples(folder / "examples.parquet"),
        _suspects(folder / "suspects.parquet"),
        _predictions(folder / "predictions.parquet"),
        _checks(scores["checks"]),
        _data(data, prepared),
        _training(summary),
        "<h2>Recipe</h2><pre>",
        html.escape(json.dumps(redact(_shown_recipe(recipe)), indent=1, ensure_ascii=False)),
        "</pre>",
    ]
    head = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
    page = f"{head}<title>{html.escape(title)}</title><style>{STYLE}</style>"
    (folder / "report.html").write_text(page + "\n".join(parts), encoding="utf-8")


def _shown_recipe(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"execution", "name"})


def _scores(scores: dict[str, Any]) -> str:
    head, *rows = score_rows(scores)
    note = f"<p class=muted>On {html.escape(over(scores))}.</p>"
    note += "".join(f"<p class=muted>{html.escape(sentence)}.</p>" for sentence in scores["notes"])
    if scores["collapsed"]:
        note += f"<p><strong>The model has collapsed: {html.escape(scores['collapsed'])}.</strong> {COLLAPSED_HINT}</p>"
    return f"<h2>Scores</h2>{note}<div class=scores style='--narrow:{len(head) - 2}'>{_table(head, rows)}</div>"


def _slices(scores: dict[str, Any]) -> str:
    head, *rows = slice_rows(scores)
    note = f"<p class=muted>The same metrics on parts of the test rows; below {FEW} rows they are unreliable.</p>"
    return f"<h2>By slice</h2>{note}<div class=slices>{_table(head, rows)}</div>" if rows else ""


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
    """The first predictions, in the order of the test rows."""
    table = pq.read_table(predictions)
    return "<h2>Predictions</h2>" + _rows(table.slice(0, 20)) if "prediction" in table.column_names else ""


def _examples(path: Path) -> str:
    if not path.exists():
        return "<h2>Examples</h2><p class=muted>This objective has no predictions by row.</p>"
    table = pq.read_table(path)
    parts = {
        "worst": ("Worst predictions", "Highest error first."),
        "doubtful": (
            "Most uncertain predictions",
            "Smallest margin first: between the two most likely labels, or between yes and no.",
        ),
    }
    sections = []
    for why, (heading, note) in parts.items():
        rows = table.filter(pc.equal(table["why"], why)).drop_columns(["why"])
        if len(rows):
            sections.append(f"<h2>{heading}</h2><p class=muted>{note}</p>{_rows(rows)}")
    return "".join(sections)


def _suspects(path: Path) -> str:
    if not path.exists():
        return ""
    table = pq.read_table(path)
    note = (
        "Validation and test rows whose label may be wrong according to the model (confident learning; Northcutt et "
        "al. 2021). Training rows are left out, because the model has learned their labels. Note that the validation "
        "rows selected the checkpoint."
    )
    return f"<h2>Suspect labels</h2><p class=muted>{note}</p>" + (_rows(table) if len(table) else "<p>None.</p>")


def _rows(table: "pa.Table") -> str:
    """A table of rows, without empty columns and with long texts cut."""
    names = [name for name in table.column_names if table[name].null_count < len(table) and name != "probabilities"]
    cells = [[_cell(row[name]) for name in names] for row in table.select(names).to_pylist()]
    return f"<div class=examples>{_table([name.replace('_', ' ') for name in names], cells)}</div>"


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)[:500]


def _data(data: dict[str, Any], prepared: Path) -> str:
    files = _table(
        ["split", "file", "rows", "unusable"],
        [[f["split"], f["file"], f"{f['rows']:,}", f"{f['unusable']:,}"] for f in data["files"]],
    )
    used = ", ".join(f"{rows:,} {split}" for split, rows in data["rows"].items())
    bad = pq.read_table(prepared / "unusable.parquet").slice(0, 100).to_pylist()
    listed = _table(["file", "line", "reason"], [list(row.values()) for row in bad]) if bad else ""
    return f"<h2>Data</h2><p>Rows used: {used}.</p>{files}{listed}"


def _checks(findings: Sequence[dict[str, Any]]) -> str:
    cells = [
        [
            finding["level"],
            f"{finding['problem']}. {finding['hint']}.",
            "; ".join(map(_location, finding["examples"][:3])),
        ]
        for finding in findings
    ]
    content = _table(["level", "finding", "examples"], cells) if cells else "<p>No findings.</p>"
    return "<h2>Checks before training</h2>" + content


def _location(example: dict[str, Any]) -> str:
    """The file and line of an example, and of the row that it equals."""
    same = f" same as {_location(example['as'])}" if "as" in example else ""
    return f"{example['file']} line {example['line']:,}{same}"


def _training(summary: dict[str, Any]) -> str:
    return "<h2>Training</h2>" + _table(
        ["what", "value"], [[name.replace("_", " "), value] for name, value in summary.items()]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    names = [html.escape(cell) for cell in head]
    top = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_data_cell, names, row))}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _data_cell(name: str, value: Any) -> str:
    """A cell with its column's name, which is shown on pages too narrow for the table's head."""
    return f"<td data-name='{name}'>{html.escape(str(value))}</td>"
