"""Write the report of a run as one self-contained HTML page, from the template `page.html.jinja`."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline_lib.evaluation.report.tables import COLLAPSED_HINT, FEW, describe_rows, number, score_rows, slice_rows
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.util.redaction import redact
from pipeline_lib.util.templates import fill_template

TEMPLATE = "evaluation/report/page.html.jinja"


class ReportTable(NamedTuple):
    """The names of columns, and the rows below them; a table without rows is not shown."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]] = ()


def write_report(recipe: Recipe, scores: dict[str, Any], prepared: Path, finetuned: Path, folder: Path) -> None:
    """Write report.html: scores, figures, labels, examples, checks, data, training and recipe."""
    data = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    summary = json.loads((finetuned / "summary.json").read_text(encoding="utf-8"))
    metrics, *metric_rows = score_rows(scores)
    slices, *rows_of_slices = slice_rows(scores)
    values = {
        "title": recipe.objective.kind.replace("_", " ").capitalize(),
        "over": describe_rows(scores),
        "notes": scores["notes"],
        "collapsed": scores["collapsed"],
        "collapsed_hint": COLLAPSED_HINT,
        "scores": ReportTable(metrics, metric_rows),
        "few": FEW,
        "slices": ReportTable(slices, rows_of_slices),
        "figures": _figures(folder / "figures"),
        "labels": _labels(scores["per_class"]),
        "examples": _examples(folder / "examples.parquet"),
        "suspects": _suspects(folder / "suspects.parquet"),
        "predictions": _predictions(folder / "predictions.parquet"),
        "findings": _findings(scores["checks"]),
        "used": ", ".join(f"{rows:,} {split}" for split, rows in data["rows"].items()),
        "files": _files(data["files"]),
        "unusable": _unusable(prepared / "unusable.parquet"),
        "training": ReportTable(
            ["what", "value"], [(name.replace("_", " "), value) for name, value in summary.items()]
        ),
        "recipe": json.dumps(redact(_recipe_document(recipe)), indent=1, ensure_ascii=False),
    }
    (folder / "report.html").write_text(fill_template(TEMPLATE, values), encoding="utf-8")


def _recipe_document(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude={"execution", "name"})


def _figures(folder: Path) -> dict[str, str]:
    """The PNG of each figure in base64, by the figure's name."""
    return {
        path.stem.replace("_", " "): base64.b64encode(path.read_bytes()).decode()
        for path in sorted(folder.glob("*.png"))
    }


def _labels(labels: Sequence[dict[str, Any]]) -> ReportTable:
    """Precision, recall, F1 and number of rows of each label, hardest first."""
    rows = []
    for label in sorted(labels, key=lambda label: label["f1"] or 0):
        shares = [number(label[name]) for name in ("precision", "recall", "f1")]
        rows.append([label["label"], *shares, label["support"]])
    return ReportTable(["label", "precision", "recall", "F1", "rows"], rows)


def _examples(path: Path) -> dict[str, ReportTable] | None:
    """The worst and the most uncertain predictions; None if the objective has no predictions by row."""
    if not path.exists():
        return None
    table = pq.read_table(path)
    selected = {why: table.filter(pc.equal(table["why"], why)) for why in ("worst", "doubtful")}
    return {why: _row_table(rows.drop_columns(["why"])) for why, rows in selected.items()}


def _suspects(path: Path) -> ReportTable | None:
    return _row_table(pq.read_table(path)) if path.exists() else None


def _predictions(path: Path) -> ReportTable | None:
    """The first predictions, in the order of the test rows."""
    table = pq.read_table(path)
    return _row_table(table.slice(0, 20)) if "prediction" in table.column_names else None


def _row_table(rows: pa.Table) -> ReportTable:
    """A table of data rows, without empty columns and with long texts cut."""
    names = [name for name in rows.column_names if rows[name].null_count < len(rows) and name != "probabilities"]
    cells = [[_cell(row[name]) for name in names] for row in rows.select(names).to_pylist()]
    return ReportTable([name.replace("_", " ") for name in names], cells)


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)[:500]


def _findings(findings: Sequence[dict[str, Any]]) -> ReportTable:
    rows = []
    for finding in findings:
        examples = "; ".join(map(_location, finding["examples"][:3]))
        rows.append([finding["level"], f"{finding['problem']}. {finding['hint']}.", examples])
    return ReportTable(["level", "finding", "examples"], rows)


def _location(example: dict[str, Any]) -> str:
    """The file and line of an example, and of the row that it equals."""
    same = f" same as {_location(example['as'])}" if "as" in example else ""
    return f"{example['file']} line {example['line']:,}{same}"


def _files(files: Sequence[dict[str, Any]]) -> ReportTable:
    rows = [[file["split"], file["file"], f"{file['rows']:,}", f"{file['unusable']:,}"] for file in files]
    return ReportTable(["split", "file", "rows", "unusable"], rows)


def _unusable(path: Path) -> ReportTable:
    """The first rows that could not be used."""
    rows = pq.read_table(path).slice(0, 100).to_pylist()
    return ReportTable(["file", "line", "reason"], [list(row.values()) for row in rows])
