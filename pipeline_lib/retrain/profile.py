"""The step `profile`: what is remembered of a data set beside the model that was trained on it.

rows.parquet     every row's key and split, the length of its text in characters, its labels or its number
words.parquet    the words of all texts, each once
labels.json      the labels that the model knows
embeddings.safetensors   where some of the texts lie for the base model, and which base that is
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.prepared import read_labels, read_split
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.retrain.embeddings import Embedder, some

if TYPE_CHECKING:
    import pyarrow

    from pipeline_lib.objectives import Objective

PROFILE, WORDS, LABELS = "rows.parquet", "words.parquet", "labels.json"


def write_profile(objective: "Objective", prepared: Path, shards: Path, embedder: Embedder, folder: Path) -> None:
    """Write the profile of all splits together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts, words = [], set[str]()
    splits = {split: read_split(prepared, shards, split) for split in SPLITS}
    for split, rows in splits.items():
        parts.append(described(objective, rows).append_column("split", pa.array([split] * len(rows), pa.string())))
        words.update(word for text in texts(objective, rows) for word in words_of(text))
    pq.write_table(pa.concat_tables(parts), folder / PROFILE)
    pq.write_table(pa.table({"word": pa.array(sorted(words), pa.string())}), folder / WORDS)
    embedder.write(texts(objective, some(pa.concat_tables(splits.values()))), folder)
    (folder / LABELS).write_text(json.dumps(read_labels(prepared), ensure_ascii=False), encoding="utf-8")


def described(objective: "Objective", rows: "pyarrow.Table") -> "pyarrow.Table":
    """Of each row: `key`, `length` in characters, `labels` (a list, empty where there are none) and `number`."""
    import pyarrow as pa

    role = objective.label_role
    answers: list[Any] = rows[role].to_pylist() if role else [[]] * len(rows)
    numbers = bool(answers) and isinstance(answers[0], float)
    labels = [[] if numbers else each if isinstance(each, list) else [each] for each in answers]
    return pa.table(
        {
            "key": rows["key"],
            "length": pa.array([len(text) for text in texts(objective, rows)], pa.int64()),
            "labels": pa.array(labels, pa.list_(pa.string())),
            "number": pa.array(answers if numbers else [None] * len(rows), pa.float64()),
        }
    )


def texts(objective: "Objective", rows: "pyarrow.Table") -> list[str]:
    """What a model is asked, as one text a row."""
    roles = [
        role for role in dict.fromkeys((*objective.input_roles, *objective.dedup_keys)) if role in rows.column_names
    ]
    return [" ".join(_flat(list(row.values()))) for row in rows.select(roles).to_pylist()]


def words_of(text: str) -> list[str]:
    """A text's words, in any language: in scripts without spaces a character is one."""
    from pipeline_lib.evaluation.metrics.question_answering import answer_tokens

    return answer_tokens(text)


def _flat(value: Any) -> Iterable[str]:
    """The texts in lists and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    return [text for part in value for text in _flat(part)] if isinstance(value, list) else [value] if value else []
