"""Fuzz recipes: whatever is in one, loading and checking it ends in a recipe or in a RecipeError, within seconds.

    python tests/fuzz/recipes.py                 every hostile value at every field, and as many random inputs again
    python tests/fuzz/recipes.py --inputs 2000   a budget; prints how many inputs were tried

Nothing is trained, and no hub is asked. Exit code 1 where an input ended in another error.
"""

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parent))

import numpy
from recipe_inputs import Input, damaged_files, odd_overrides, wrong_values
from safetensors.numpy import save_file

from pipeline_lib.errors import RecipeError, error_text
from pipeline_lib.pipeline.input_checks import check_files
from pipeline_lib.recipe.loading import load

LIMIT = 5.0
"""Seconds that one input may take."""


def documents(folder: Path) -> list[Any]:
    """Recipes that between them have every section of the schema and most fields; their files are made in a folder."""
    rows = "text,label\n" + "".join(f"text {number},{number % 2}\n" for number in range(40))
    for name in ("train.csv", "lines.en", "lines.de"):
        (folder / name).write_text(rows, encoding="utf-8")
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text('{"model_type": "bert"}')
    (folder / "base" / "tokenizer.json").write_text("{}")
    save_file({"weight": numpy.zeros(1)}, folder / "base" / "model.safetensors")
    first: dict[str, Any] = {
        "name": "fuzz",
        "data": {
            "source": {"kind": "csv", "train": "train.csv", "validation": ["train.csv"], "delimiter": ","},
            "columns": {"text": "text", "label": "label", "text_pair": None},
            "split": {"validation": 0.1, "test": 0.2, "by": "text", "seed": 3},
            "max_unusable": 0.1,
            "checks": {"duplicates": "warn"},
        },
        "model": {"base": "base", "revision": None},
        "objective": {
            "kind": "text_classification",
            "max_length": 64,
            "cloze": {
                "template": "{text} is {mask}",
                "verbalizer": [{"label": str(label), "words": [f"w{label}"]} for label in (0, 1)],
            },
        },
        "strategies": [
            {"kind": "partial", "last_layers": 1, "patterns": ["x"]},
            {"kind": "layerwise_lr", "decay": 0.9, "rates": [{"pattern": "x", "scale": 0.5}]},
        ],
        "regularizers": [{"kind": "early_stopping", "patience": 2, "metric": "accuracy"}, {"kind": "dropout"}],
        "training": {"epochs": 1, "learning_rate": 1e-4, "warmup": 0.1, "schedule": "linear"},
        "evaluation": {
            "metrics": ["accuracy"],
            "baselines": ["majority"],
            "slices": [{"kind": "length", "edges": [5, 9]}, {"kind": "column", "column": "label"}],
        },
        "seed": 7,
        "execution": {"store": "store", "tracking_uri": "sqlite:///t.db", "experiment": "x", "cluster": None},
    }
    parallel = {"kind": "parallel", "train": "lines.en", "source_language": "en", "target_language": "de"}
    second: dict[str, Any] = {
        "name": "fuzz",
        "data": {"source": parallel},
        "model": {"base": "base"},
        "objective": {"kind": "seq2seq", "prefix": "x"},
        "strategies": [
            {"kind": "lora", "targets": ["q"], "rank": 2},
            {"kind": "prompt", "init": "text", "init_text": "x"},
        ],
    }
    return [first, second]


def inputs(budget: int | None, seed: int, folder: Path) -> list[Input]:
    """The inputs of a budget, half of them wrong values; without one all of these, and as many random ones."""
    draw, recipes = random.Random(seed), documents(folder)
    values = [value for document in recipes for value in wrong_values(document)]
    if budget is not None:
        draw.shuffle(values)
        values = values[: budget // 2]
    chosen = list(values)
    quarter = max(1, len(values) // (2 * len(recipes)))
    for document in recipes:
        chosen += islice(damaged_files(document, draw), quarter)
        chosen += islice(odd_overrides(document, draw), quarter)
    return chosen


def attempt(given: Input, folder: Path) -> tuple[str, str | None]:
    """How an input ended (taken or refused), and what is wrong with that."""
    (folder / "recipe.yaml").write_text(given.text, encoding="utf-8", errors="surrogatepass")
    began, ended = time.perf_counter(), "taken"
    try:
        check_files(load(folder / "recipe.yaml", given.overrides))
    except RecipeError as error:
        ended = "refused"
        error_text(error).encode("utf-8")  # it must be possible to print it
    except Exception:
        return "failed", traceback.format_exc()
    seconds = time.perf_counter() - began
    return ended, f"it took {seconds:.1f} s\n" if seconds > LIMIT else None


def main() -> int:
    """Run the inputs, and print how many were tried and what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunesmith-fuzz-") as name:
        os.chdir(name)
        counts: Counter[str] = Counter()
        for given in inputs(wanted.inputs, wanted.seed, Path(name)):
            ended, problem = attempt(given, Path(name))
            counts[ended] += 1
            if problem:
                counts["faults"] += 1
                print(f"FAULT at {given.name}\n{problem[-1_500:]}", flush=True)
    tried = counts["taken"] + counts["refused"] + counts["failed"]
    print(f"{tried:,} recipes tried with seed {wanted.seed}: {dict(counts)}")
    return 1 if counts["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
