"""Write the model card (README.md) of an exported model: use, base, scores, data, training and limits."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.evaluation.report.tables import markdown_table, score_rows, slice_rows
from pipeline_lib.models.building import CARD
from pipeline_lib.store.lineage import Lineage, file_digests, is_hub_id
from pipeline_lib.util.redaction import redact

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
UNKNOWN = "Not recorded with this model."


def write_card(lineage: Lineage, name: str, out: Path) -> None:
    """Write README.md with the front matter for the hub."""
    card = _json(lineage.model / CARD)
    scores = _json(lineage.scores / "metrics.json") if lineage.scores else {}
    (architecture,) = _json(out / "config.json")["architectures"]
    sections = {
        "Use": _use(architecture, card["objective"]),
        "Base model": _base(lineage, card),
        "Evaluation": _scores(scores),
        "Data": _data(lineage),
        "Training": _training(lineage, card),
        "Limits": _limits(card, scores),
    }
    front = yaml.safe_dump(_front(lineage, card, scores, architecture), sort_keys=False, allow_unicode=True)
    title = f"# {name}\n\n{_what(card, architecture)}\n"
    body = "\n".join(f"## {name}\n\n{text}\n" for name, text in sections.items())
    (out / "README.md").write_text(redact(f"---\n{front}---\n\n{title}\n{body}"), encoding="utf-8")


def _front(lineage: Lineage, card: dict[str, Any], scores: dict[str, Any], architecture: str) -> dict[str, Any]:
    """The front matter. Language and licence are left out, because they are unknown and must not be guessed."""
    kinds = [strategy["kind"].replace("_", "-") for strategy in card["strategies"]]
    task = _kind(architecture)[1]
    return {
        "library_name": "transformers",
        **({"base_model": lineage.base_name} if is_hub_id(lineage.base_name) else {}),
        **({"pipeline_tag": task} if task else {}),
        "tags": ["tunesmith", card["objective"]["kind"].replace("_", "-"), *kinds],
        **({"metrics": list(scores["metrics"])} if scores else {}),
    }


def _what(card: dict[str, Any], architecture: str) -> str:
    labels = card["labels"]
    described = f" It has {len(labels)} labels: {_listed(labels)}." if labels else ""
    objective = card["objective"]["kind"].replace("_", " ")
    return f"A `{architecture}` fine-tuned with Tunesmith for {objective}.{described}"


def _use(architecture: str, objective: dict[str, Any]) -> str:
    auto = _kind(architecture)[0]
    limit = f"\n\nTexts were truncated to {objective['max_length']} tokens." if objective.get("max_length") else ""
    cloze = objective.get("cloze")
    prompt = f"\n\nLabels are predicted as words in the template `{cloze['template']}`." if cloze else ""
    lines = (f"from transformers import {auto}, AutoTokenizer", "", f"model = {auto}.from_pretrained(FOLDER)")
    code = "\n".join((*lines, "tokenizer = AutoTokenizer.from_pretrained(FOLDER)"))
    return f"```python\n{code}\n```{limit}{prompt}"


def _base(lineage: Lineage, card: dict[str, Any]) -> str:
    base = lineage.base_name
    name = f"`{base}`" if is_hub_id(base) or base.startswith("package:") else "A base model in a local folder"
    commit = f", revision `{lineage.revision}`" if lineage.revision else ""
    files = markdown_table(("file", "SHA-256"), [(file, f"`{digest}`") for file, digest in card["base"].items()])
    return f"{name}{commit}. Its files:\n\n{files}"


def _scores(scores: dict[str, Any]) -> str:
    if not scores:
        return UNKNOWN
    head, *rows = score_rows(scores)
    text = f"On {scores['rows']:,} test rows; intervals by bootstrap over these rows.\n\n{markdown_table(head, rows)}"
    head, *rows = slice_rows(scores)
    return text + (f"\n\nOn slices of these rows:\n\n{markdown_table(head, rows)}" if rows else "")


def _data(lineage: Lineage) -> str:
    if lineage.prepared is None:
        return UNKNOWN
    report = _json(lineage.prepared / "report.json")
    rows = [
        (file["split"], file["file"], file["rows"], file["unusable"], f"`{digest}`" if digest else "–")
        for file, digest in zip(report["files"], file_digests(lineage), strict=True)
    ]
    used = ", ".join(f"{count:,} {split}" for split, count in report["rows"].items())
    return f"Rows used: {used}.\n\n{markdown_table(('split', 'file', 'rows', 'unusable', 'SHA-256'), rows)}"


def _training(lineage: Lineage, card: dict[str, Any]) -> str:
    recipe = lineage.manifest.get("identity", {}).get("recipe", {})
    parts = {"strategies": card["strategies"], **{name: recipe[name] for name in ("regularizers",) if name in recipe}}
    lists = [f"{name.capitalize()}: {_parts(sections)}." for name, sections in parts.items()]
    facts = dict(_flat(recipe.get("training", {}))) | {name: recipe[name] for name in ("seed",) if name in recipe}
    if (lineage.model.parent / "summary.json").is_file():
        facts |= {f"{name} (done)": value for name, value in _json(lineage.model.parent / "summary.json").items()}
    facts |= lineage.manifest.get("identity", {}).get("libraries", {})
    table = markdown_table(("setting", "value"), facts.items()) if facts else UNKNOWN
    return "\n\n".join([*lists, table])


def _limits(card: dict[str, Any], scores: dict[str, Any]) -> str:
    lines = [
        "The scores hold for texts like the test rows only, not for other domains or languages.",
        f"The model was evaluated in {card['precision']}; single predictions can differ in another precision.",
        "The model inherits the knowledge and the biases of its base model, whose licence still applies.",
    ]
    if scores.get("collapsed"):
        lines.append(f"The model has collapsed: {scores['collapsed']}.")
    lines += [f"Found before training: {finding['problem']}." for finding in scores.get("checks", ())]
    if scores and any(score["low"] is None for score in scores["metrics"].values()):
        lines.append("Scores without an interval are based on too few rows for one.")
    return "\n".join(f"- {line}" for line in lines)


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


def _listed(labels: Sequence[str], most: int = 20) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(f"`{label}`" for label in labels[:most]) + more


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
