"""The step `profile`: a summary of the training data, stored with the model to measure drift later.

rows.parquet     each row's key and split, its text's length in characters, its labels or number
words.parquet    the distinct words of all texts
labels.json      the model's labels
embeddings.safetensors   embeddings of a sample of texts by the base model, and the base's digest
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.prepared import read_labels, read_split
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.retrain.embeddings import Embedder, sample_rows

if TYPE_CHECKING:
    import pyarrow

    from pipeline_lib.objectives import Objective

PROFILE, WORDS, LABELS = "rows.parquet", "words.parquet", "labels.json"


def write_profile(objective: "Objective", prepared: Path, shards: Path, embedder: Embedder, folder: Path) -> None:
    """Write the profile of all splits."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts, words = [], set[str]()
    splits = {split: read_split(prepared, shards, split) for split in SPLITS}
    for split, rows in splits.items():
        inputs = input_texts(objective, rows)
        columns = profile_rows(objective, rows, inputs)
        parts.append(columns.append_column("split", pa.array([split] * len(rows), pa.string())))
        words.update(word for text in inputs for word in words_of(text))
    pq.write_table(pa.concat_tables(parts), folder / PROFILE)
    pq.write_table(pa.table({"word": pa.array(sorted(words), pa.string())}), folder / WORDS)
    embedder.write(input_texts(objective, sample_rows(pa.concat_tables(splits.values()))), folder)
    (folder / LABELS).write_text(json.dumps(read_labels(prepared), ensure_ascii=False), encoding="utf-8")


def profile_rows(objective: "Objective", rows: "pyarrow.Table", inputs: list[str]) -> "pyarrow.Table":
    """The columns `key`, `length` in characters, `labels` (a list, empty for regression) and `number` of each row.

    `inputs` are the rows' `texts`.
    """
    import pyarrow as pa

    role = objective.label_role
    answers: list[Any] = rows[role].to_pylist() if role else [[]] * len(rows)
    numbers = bool(answers) and isinstance(answers[0], float)
    if numbers:
        labels: list[list[Any]] = [[] for _ in answers]
    else:
        labels = [answer if isinstance(answer, list) else [answer] for answer in answers]
    return pa.table(
        {
            "key": rows["key"],
            "length": pa.array([len(text) for text in inputs], pa.int64()),
            "labels": pa.array(labels, pa.list_(pa.string())),
            "number": pa.array(answers if numbers else [None] * len(rows), pa.float64()),
        }
    )


def input_texts(objective: "Objective", rows: "pyarrow.Table") -> list[str]:
    """The model's input as one text per row."""
    roles = [
        role for role in dict.fromkeys((*objective.input_roles, *objective.dedup_keys)) if role in rows.column_names
    ]
    return [" ".join(_flat(list(row.values()))) for row in rows.select(roles).to_pylist()]


def words_of(text: str) -> list[str]:
    """The words of a text in any language; in scripts without spaces each character is a word."""
    from pipeline_lib.evaluation.metrics.question_answering import normalize_answer

    return normalize_answer(text)


def _flat(value: Any) -> Iterable[str]:
    """All texts in nested lists and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for part in value for text in _flat(part)]
    return [value] if value else []
