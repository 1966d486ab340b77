"""Fuzz model folders: each ends in a trained model or in a RecipeError, without a crash or a hang.

    python tests/fuzz/model_folders.py                 300 damaged folders
    python tests/fuzz/model_folders.py --inputs 50     another budget; prints how many of each damage were tried

Each folder goes through the steps of a run on a few rows, from the look at its files to an epoch of training. Exit
code 1 where one ended in another way.
"""

import argparse
import json
import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "kill")]

from damage import damaged_bytes, damaged_document
from fuzz_processes import try_all
from kill_zygote import Silent
from tiny_models import make_model

from pipeline_lib.data.encoding import encode_files, fetch_base, here
from pipeline_lib.pipeline import input_checks, steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking import live_run

TEMPLATES = (
    "{{ nothing.here.at.all }}",
    "{% for message in messages %}",
    "{{ raise_exception('no') }}",
    "{{ messages[99].content }}",
    "{{ 1 / 0 }}",
    "{% for a in range(10 ** 9) %}{{ a }}{% endfor %}",
    "{{ 'a' * 10 ** 12 }}",
    "{{ ''.__class__.__mro__ }}",
    "",
    "{{ messages }}{{ undefined_function() }}",
)


class Given(NamedTuple):
    """A model folder with one damaged file."""

    family: str
    file: str
    content: bytes
    what: str


def damages(base: dict[str, bytes], draw: random.Random) -> dict[str, Callable[[], tuple[str, bytes, str]]]:
    """By name: a file of a model folder, what it holds instead, and what was done in words."""

    def values(file: str) -> tuple[str, bytes, str]:
        text, what = damaged_document(json.loads(base[file]), draw)
        return file, text.encode("utf-8", "surrogatepass"), what

    def raw() -> tuple[str, bytes, str]:
        file = draw.choice([name for name in base if name.endswith(".json")])
        return file, damaged_bytes(base[file], draw), "damaged bytes"

    def header() -> tuple[str, bytes, str]:
        content = base["model.safetensors"]
        size = struct.unpack("<Q", content[:8])[0]
        kind = draw.randrange(4)
        if kind == 0:
            text, what = damaged_document(json.loads(content[8 : 8 + size]), draw)
            changed = text.encode("utf-8", "surrogatepass")
            return "model.safetensors", struct.pack("<Q", len(changed)) + changed + content[8 + size :], what
        if kind == 1:
            size = draw.choice((0, 1, 2**31, 2**63, 2**64 - 1))
            return "model.safetensors", struct.pack("<Q", size) + content[8:], f"a header of {size} bytes"
        if kind == 2:
            return "model.safetensors", content[: draw.randrange(len(content))], "cut off"
        return "model.safetensors", damaged_bytes(content[: 8 + size], draw) + content[8 + size :], "damaged header"

    def template() -> tuple[str, bytes, str]:
        chosen = draw.choice(TEMPLATES)
        return "chat_template.jinja", chosen.encode(), chosen

    return {
        "config.json": lambda: values("config.json"),
        "tokenizer.json": lambda: values("tokenizer.json"),
        "tokenizer_config.json": lambda: values("tokenizer_config.json"),
        "bytes of JSON files": raw,
        "weights": header,
        "chat template": template,
    }


def attempt(given: Given, folder: Path) -> None:
    """Train a model folder, with everything before that."""
    place = folder / "input"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / given.family, place / "base")
    (place / "base" / given.file).write_bytes(given.content)
    chats = given.family == "gpt2"
    recipe = check(
        {
            "name": "fuzz",
            "data": {
                "source": {"kind": "jsonl", "train": str(folder / "rows.jsonl")},
                "split": {"validation": 0.2, "test": 0.2},
                "columns": {"messages": "messages"} if chats else {},
            },
            "model": {"base": str(place / "base")},
            "objective": {"kind": "causal_lm" if chats else "text_classification"},
            "training": {"epochs": 1, "batch_size": 4},
            "execution": {"device": "cpu", "precision": "fp32", "store": str(place / "store")},
        }
    )
    input_checks.check_files(recipe)
    prepared = steps.prepare(recipe, encode_files(recipe, fetch_base(recipe), "fuzz", here))
    initial = steps.initialise(recipe, prepared)
    steps.checks(recipe, prepared, initial)
    steps.finetune(recipe, prepared, initial)


def main() -> int:
    """Try the inputs, and print how many of each damage were tried and how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--damage")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-fuzz-"))
    rows = [{"text": f"a day number {number}", "label": "good" if number % 2 else "bad"} for number in range(20)]
    chats = [[{"role": "user", "content": row["text"]}, {"role": "assistant", "content": row["label"]}] for row in rows]
    lines = [json.dumps({**row, "messages": chat}) + "\n" for row, chat in zip(rows, chats, strict=True)]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    bases: dict[str, dict[str, bytes]] = {}
    for family in ("bert", "gpt2"):
        make_model(folder / family, family)
        bases[family] = {file.name: file.read_bytes() for file in sorted((folder / family).iterdir())}
    live_run.LiveRun = Silent  # type: ignore[assignment, misc]  # nothing is told to MLflow
    attempt(Given("bert", "rows", b"", ""), folder)  # imports what children need, and shows that sound folders train
    attempt(Given("gpt2", "rows", b"", ""), folder)
    faults = 0
    names = [wanted.damage] if wanted.damage else list(damages({}, random.Random()))
    for name in names:
        draw = random.Random(f"{wanted.seed} {name}")
        given = []
        for number in range(max(1, wanted.inputs // len(names))):
            family = "gpt2" if number % 2 or name == "chat template" else "bert"
            given.append(Given(family, *damages(bases[family], draw)[name]()))
        counts = try_all(
            given,
            lambda attempted: attempt(attempted, folder),
            lambda attempted: f"{attempted.family}, {attempted.file}: {attempted.what}",
        )
        faults += counts["fault"]
        print(f"{counts.total():6,} folders with other {name}: {dict(counts)}", flush=True)
    shutil.rmtree(folder)
    return min(1, faults)


if __name__ == "__main__":
    sys.exit(main())
