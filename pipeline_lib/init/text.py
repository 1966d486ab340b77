"""Write a drafted recipe as YAML with comments."""

from typing import Any

import yaml

from pipeline_lib.init.draft import Draft

WIDTH = 110
"""Longer sections are spread over several lines."""
TRAINS = "# what is trained: all parameters; cheaper: [{kind: lora}] or [{kind: partial, last_layers: 2}]"
COMMENTS = {
    "source": "# where the rows come from; paths are relative to this file",
    "columns": "# the role of each column",
    "split": "# shares of the training rows to hold out",
    "max_unusable": "# share of rows that may be unusable; see the list above",
    "base": "# a hub id, a folder, or package:NAME/folder",
    "objective": "# the task to learn",
    "strategies": TRAINS,
    "regularizers": "# to stop early: add {kind: early_stopping, patience: 2}",
    "training": "# epochs are passes over the training rows; learning_rate is the peak rate",
    "evaluation": "# simple baselines to compare with",
}


def recipe_text(draft: Draft) -> str:
    """The whole file: what was seen and what is unsure as comments, then the recipe's fields."""
    columns = draft.dataset.train.columns
    head = [f"# Written by `tunesmith init`. {_rows(draft)}", "#", "# Columns:"]
    head += [f"#   {_one_line(f'{name}: {column.describe()}')}" for name, column in columns.items()]
    if draft.unsure:
        head += ["#", "# To check:", *(f"#   - {_one_line(sentence)}" for sentence in draft.unsure)]
    document = draft.document
    data, model = document["data"], document["model"]
    lines = [f"name: {_flow(document['name'])}", "data:"]
    for name, value in data.items():
        lines += _format_field(name, value, 2)
    lines += ["model:", *_format_field("base", model["base"], 2)]
    for name in ("objective", "strategies", "regularizers", "training", "evaluation"):
        if name != "evaluation" or document[name]["baselines"]:
            lines += _format_field(name, document[name], 0)
    return "\n".join([*head, "", *lines, ""])


def _one_line(text: str) -> str:
    """A text without line ends and control characters: a comment of YAML ends with its line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _rows(draft: Draft) -> str:
    counts = [f"{sum(t.rows for t in tables):,} {split}" for split, tables in draft.dataset.splits.items()]
    return f"Rows: {', '.join(counts)}."


def _format_field(name: str, value: Any, indent: int) -> list[str]:
    """A field with its comment, on one line where it is short."""
    space, comment = " " * indent, COMMENTS[name]
    line = f"{space}{name}: {_flow(value)}"
    if len(line) + len(comment) + 2 <= WIDTH + indent:
        return [f"{line}  {comment}"]
    if len(line) <= WIDTH or not isinstance(value, dict):
        return [f"{space}{comment}", line]
    return [f"{space}{comment}", f"{space}{name}:", *(f"{space}  {key}: {_flow(part)}" for key, part in value.items())]


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**9)
    return text.strip().removesuffix("...").strip()
