"""Fuzz data files of every kind of source: each file ends in a shard or in a RecipeError, without a crash or a hang.

    python tests/fuzz/data_files.py                 1,000 damaged files
    python tests/fuzz/data_files.py --inputs 100    another budget; prints how many files of each kind were tried
    python tests/fuzz/data_files.py --kind json     one kind

Exit code 1 where an input ended in another way.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path.append(str(Path(__file__).parent))

import pyarrow as pa
import pyarrow.parquet as pq
from damage import damaged_bytes, damaged_document
from fuzz_processes import try_all
from tiny_models import make_model

from pipeline_lib.data.shards import refuse_missing_columns, write_shard
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.recipe.schema import check

TEXTS = [f"a {mood} day number {number}" for number in range(30) for mood in ("good", "bad")]
LABELS = ["good" if " good " in text else "bad" for text in TEXTS]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
CHATS = [
    {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}]}
    for text, label in zip(TEXTS, LABELS, strict=True)
]
QUESTION = {"id": "1", "question": "which day?", "answers": [{"text": "good", "answer_start": 2}]}
SQUAD = {"data": [{"title": "t", "paragraphs": [{"context": "a good day", "qas": [QUESTION] * 3}] * 3}]}
WORD = "1\tday\tday\tNOUN\tNN\t_\t0\troot\t_\t_\n"


class Kind(NamedTuple):
    """A kind of source: its files, the recipe's parts that read them, and the document that a JSON file holds."""

    name: str
    files: dict[str, bytes]
    source: dict[str, Any]
    objective: str = "text_classification"
    columns: dict[str, str] | None = None
    document: Any = None
    """What is damaged in every second input, in place of the bytes of the first file."""


class Given(NamedTuple):
    """An input: the damaged file among those of a kind."""

    kind: Kind
    file: str
    content: bytes
    what: str


def kinds() -> list[Kind]:
    """Every kind of source, with small files that are sound."""
    table = "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
    csv = ("text,label\n" + table).encode()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    conll = "".join(f"{word}\tO\n" for word in TEXTS[0].split()) + "\n"
    tokens = {"tokens": "tokens", "tags": "tags"}
    return [
        Kind("csv", {"x.csv": csv}, {"kind": "csv"}),
        Kind("csv.gz", {"x.csv.gz": gzip.compress(csv, mtime=0)}, {"kind": "csv"}),
        Kind("csv.zst", {"x.csv.zst": pa.compress(csv, "zstd", asbytes=True)}, {"kind": "csv"}),
        Kind("tsv", {"x.tsv": csv.replace(b",", b"\t")}, {"kind": "tsv"}),
        Kind("json", {"x.json": json.dumps(ROWS).encode()}, {"kind": "json"}, document=ROWS[:5]),
        Kind("jsonl", {"x.jsonl": lines}, {"kind": "jsonl"}, document=ROWS[0]),
        Kind("yaml", {"x.yaml": _yaml(ROWS)}, {"kind": "yaml"}),
        Kind(
            "chats",
            {"x.jsonl": "".join(json.dumps(chat) + "\n" for chat in CHATS).encode()},
            {"kind": "jsonl"},
            "causal_lm",
            {"messages": "messages"},
            CHATS[0],
        ),
        Kind("squad", {"x.json": json.dumps(SQUAD).encode()}, {"kind": "squad"}, "question_answering", document=SQUAD),
        Kind("conll", {"x.conll": (conll * 9).encode()}, {"kind": "conll"}, "token_classification", tokens),
        Kind(
            "conllu",
            {"x.conllu": ("# sent_id = 1\n" + WORD * 4 + "\n").encode() * 9},
            {"kind": "conllu"},
            "token_classification",
            {"tokens": "form", "tags": "upos"},
        ),
        Kind(
            "parallel",
            {"x.en": "\n".join(TEXTS).encode(), "x.de": "\n".join(LABELS).encode()},
            {"kind": "parallel", "source_language": "en", "target_language": "de"},
            "seq2seq",
        ),
        Kind("text", {"x.txt": "\n".join(TEXTS).encode()}, {"kind": "text"}, "language_modeling"),
        Kind("parquet", {"x.parquet": _parquet(pa.Table.from_pylist(ROWS))}, {"kind": "parquet"}),
        Kind("arrow", _data_set(), {"kind": "huggingface"}),
        Kind(
            "data set's state",
            dict(sorted(_data_set().items(), reverse=True)),
            {"kind": "huggingface"},
            document=json.loads(_data_set()["state.json"]),
        ),
    ]


def _yaml(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"- {{text: {row['text']}, label: {row['label']}}}\n" for row in rows).encode()


def inputs(kind: Kind, budget: int, draw: random.Random) -> list[Given]:
    """So many inputs of a kind."""
    first, found = next(iter(kind.files)), []
    for number in range(budget):
        if kind.document is not None and number % 2:
            text, what = damaged_document(kind.document, draw)
            rest = kind.files[first] if first.endswith(".jsonl") else b""
            found.append(Given(kind, first, text.encode("utf-8", "surrogatepass") + b"\n" + rest, what))
        elif kind.name in ("parquet", "arrow") and number % 4 == 1:
            table, what = _odd_table(draw)
            content = _parquet(table) if kind.name == "parquet" else _arrow(table)
            found.append(Given(kind, first, content, what))
        else:
            file = draw.choice(list(kind.files))
            found.append(Given(kind, file, damaged_bytes(kind.files[file], draw), "damaged bytes"))
    return found


def attempt(given: Given, folder: Path, tokenizer: Any) -> None:
    """Read the files of an input as a run does, up to the shard."""
    kind, place = given.kind, folder / "input"
    shutil.rmtree(place, ignore_errors=True)
    (place / "shard").mkdir(parents=True)
    for name, content in {**kind.files, given.file: given.content}.items():
        (place / name).write_bytes(content)
    location = (
        {"path": str(place)} if kind.source["kind"] == "huggingface" else {"train": str(place / next(iter(kind.files)))}
    )
    recipe = check(
        {
            "name": "fuzz",
            "data": {"source": kind.source | location, **({"columns": kind.columns} if kind.columns else {})},
            "model": {"base": "base"},
            "objective": {"kind": kind.objective} | ({"modeling": "causal"} if kind.name == "text" else {}),
        }
    )
    for file in recipe.data.source.files("train"):
        refuse_missing_columns(recipe.data, recipe.objective, {}, file, "train")
        write_shard(recipe.data, recipe.objective, tokenizer, [file], place / "shard", 10_000)


def _odd_table(draw: random.Random) -> tuple[pa.Table, str]:
    """A sound file whose columns have types that hold no texts."""
    arrays = [
        pa.array([1, None] * 3, pa.int64()),
        pa.array([b"\xff", None] * 3, pa.binary()),
        pa.array([[1.5], None] * 3),
        pa.array([{"a": 1}, None] * 3),
        pa.array([10**12, None] * 3, pa.timestamp("s")),
        pa.array([2**62, None] * 3, pa.timestamp("us")),  # beyond the years that Python knows
        pa.array([2**62, None] * 3, pa.duration("us")),
        pa.array([float("inf"), float("nan")] * 3),
        pa.array(["a", None] * 3).dictionary_encode(),
        pa.array([None] * 6, pa.null()),
        pa.array(["a\0b", ""] * 3),
        pa.array([[("a", 1)], None] * 3, pa.map_(pa.string(), pa.int64())),
        pa.array([True, None] * 3),
        pa.array([2**31 - 1, None] * 3, pa.date32()),
    ]
    text, label = draw.choice(arrays), draw.choice(arrays)
    names = draw.choice((["text", "label"], ["text", "text"], ["", "label"]))
    return pa.table([text, label], names=names), f"{names}: {text.type} and {label.type}"


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _data_set() -> dict[str, bytes]:
    """What `save_to_disk` writes, with the Arrow file first."""
    feature = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["bad", "good"], "_type": "ClassLabel"},
    }
    table = pa.table({"text": TEXTS, "label": [int(label == "good") for label in LABELS]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    state = {"_data_files": [{"filename": "data.arrow"}], "_fingerprint": "x", "_indices_data_files": None}
    return {"data.arrow": _arrow(table), "state.json": json.dumps(state).encode(), "dataset_info.json": b"{}"}


def main() -> int:
    """Try the inputs, and print how many of each kind were tried and how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000)
    parser.add_argument("--kind")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-fuzz-"))
    tokenizer = load_tokenizer(make_model(folder / "base"))
    chosen = [kind for kind in kinds() if wanted.kind in (None, kind.name)]
    faults = 0
    for kind in chosen:
        draw = random.Random(f"{wanted.seed} {kind.name}")
        given = inputs(kind, max(1, wanted.inputs // len(chosen)), draw)
        counts = try_all(
            given,
            lambda attempted: attempt(attempted, folder, tokenizer),
            lambda attempted: f"{attempted.kind.name}, {attempted.file}: {attempted.what}",
        )
        faults += counts["fault"]
        print(f"{counts.total():6,} files of {kind.name}: {dict(counts)}", flush=True)
    shutil.rmtree(folder)
    return min(1, faults)


if __name__ == "__main__":
    sys.exit(main())
