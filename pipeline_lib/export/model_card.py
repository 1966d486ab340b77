"""Write the model card (README.md) of an exported model: use, base, scores, data, training and limits.

The text is in the template `model_card.md.jinja`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.evaluation.report.tables import markdown_table, score_rows, slice_rows
from pipeline_lib.export.formats import LIBRARIES, Format
from pipeline_lib.export.quantized import Deviation
from pipeline_lib.models.building import CARD
from pipeline_lib.store.lineage import Lineage, is_hub_id
from pipeline_lib.util.redaction import redact
from pipeline_lib.util.templates import fill_template

KINDS = {
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForConditionalGeneration": ("AutoModelForSeq2SeqLM", ""),
    "LMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
}
"""The auto class and the hub's task of an architecture, by the end of its name."""
TEMPLATE = "export/model_card.md.jinja"


def write_card(
    lineage: Lineage, name: str, out: Path, format: Format = "huggingface", deviation: Deviation | None = None
) -> None:
    """Write README.md with the metadata that the hub reads.

    `deviation` is that of the export from the model that was evaluated with a quantised base.
    """
    card = _json(lineage.model / CARD)
    scores = _json(lineage.scores / "metrics.json") if lineage.scores else {}
    (architecture,) = _json(lineage.model / "config.json")["architectures"]
    objective = card["objective"]
    cloze = objective.get("cloze")
    values = {
        "format": format,
        "metadata": _metadata(lineage, card, scores, architecture, LIBRARIES[format]),
        "name": name,
        "architecture": architecture,
        "auto_class": _kind(architecture)[0],
        "objective": objective["kind"].replace("_", " "),
        "label_count": len(card["labels"] or ()),
        "labels": _format_labels(card["labels"] or ()),
        "max_length": objective.get("max_length"),
        "cloze_template": cloze["template"] if cloze else None,
        **_base(lineage, card),
        **_scores(scores),
        **_data(lineage),
        **_training_section(lineage, card),
        "precision": card["precision"],
        "deviation": deviation,
    }
    (out / "README.md").write_text(redact(fill_template(TEMPLATE, values)), encoding="utf-8")


def _metadata(lineage: Lineage, card: dict[str, Any], scores: dict[str, Any], architecture: str, library: str) -> str:
    """The YAML for the hub. Language and licence are left out, because they are unknown and must not be guessed."""
    from huggingface_hub import ModelCardData

    kinds = [strategy["kind"].replace("_", "-") for strategy in card["strategies"]]
    return ModelCardData(
        library_name=library,
        base_model=lineage.base_name if is_hub_id(lineage.base_name) else None,
        pipeline_tag=_kind(architecture)[1] or None,
        tags=["tunesmith", card["objective"]["kind"].replace("_", "-"), *kinds],
        metrics=list(scores["metrics"]) if scores else None,
    ).to_yaml()


def _base(lineage: Lineage, card: dict[str, Any]) -> dict[str, str]:
    base = lineage.base_name
    name = f"`{base}`" if is_hub_id(base) or base.startswith("package:") else "A base model in a local folder"
    commit = f", revision `{lineage.revision}`" if lineage.revision else ""
    files = markdown_table(("file", "SHA-256"), [(file, f"`{digest}`") for file, digest in card["base"].items()])
    loading = (
        f'"{base}"' + (f', revision="{lineage.revision}"' if lineage.revision else "") if is_hub_id(base) else "BASE"
    )
    return {"base": f"{name}{commit}", "base_files": files, "base_arguments": loading}


def _scores(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of scores and the findings about data and model; empty without scores."""
    if not scores:
        return {"metrics": "", "collapsed": None, "problems": [], "lacks_interval": False}
    head, *rows = score_rows(scores)
    slice_head, *slices = slice_rows(scores)
    return {
        "test_rows": f"{scores['rows']:,}",
        "metrics": markdown_table(head, rows),
        "slices": markdown_table(slice_head, slices) if slices else "",
        "collapsed": scores["collapsed"],
        "problems": [finding["problem"] for finding in scores["checks"]],
        "lacks_interval": any(score["low"] is None for score in scores["metrics"].values()),
    }


def _data(lineage: Lineage) -> dict[str, str]:
    if lineage.prepared is None:
        return {"data_files": ""}
    report = _json(lineage.prepared / "report.json")
    rows = []
    for file in report["files"]:
        digest = f"`{file['sha256']}`" if "sha256" in file else "–"  # older reports have none
        rows.append((file["split"], file["file"], file["rows"], file["unusable"], digest))
    return {
        "rows_used": ", ".join(f"{count:,} {split}" for split, count in report["rows"].items()),
        "data_files": markdown_table(("split", "file", "rows", "unusable", "SHA-256"), rows),
    }


def _training_section(lineage: Lineage, card: dict[str, Any]) -> dict[str, Any]:
    recipe = lineage.manifest.get("identity", {}).get("recipe", {})
    parts = {"strategies": card["strategies"], **{name: recipe[name] for name in ("regularizers",) if name in recipe}}
    facts = dict(_flat(recipe.get("training", {}))) | {name: recipe[name] for name in ("seed",) if name in recipe}
    if (lineage.model.parent / "summary.json").is_file():
        facts |= {f"{name} (done)": value for name, value in _json(lineage.model.parent / "summary.json").items()}
    facts |= lineage.manifest.get("identity", {}).get("libraries", {})
    return {
        "trained_with": {name.capitalize(): _parts(sections) for name, sections in parts.items()},
        "settings": markdown_table(("setting", "value"), facts.items()) if facts else "",
    }


def _kind(architecture: str) -> tuple[str, str]:
    return next((kind for end, kind in KINDS.items() if architecture.endswith(end)), ("AutoModel", ""))


def _parts(parts: Sequence[dict[str, Any]]) -> str:
    """Format strategies or regularizers: "full; lora (rank 8, alpha 16.0)"."""
    described = []
    for part in parts:
        fields = ", ".join(
            f"{name} {value}" for name, value in _flat(part) if name != "kind" and value not in (None, [])
        )
        described.append(f"{part['kind']} ({fields})" if fields else part["kind"])
    return "; ".join(described) or "none"


def _flat(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name.replace("_", " "), part) for name, part in value.items())


def _format_labels(labels: Sequence[str], most: int = 20) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(f"`{label}`" for label in labels[:most]) + more


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
