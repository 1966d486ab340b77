"""What a step, a score and an encoded row cost, as ratios measured in turn in one process.

    python tests/benchmarks/costs.py [--rows 6920] [--steps 20] [--history artifacts/bench/ratios.parquet]

Needs ../shared. Each figure is a median over turns in which every side runs once, so that what else the machine does
falls on all of them. Every side has taken the same steps once before: in a training of its own oneDNN's kernels for
its widths are made in the first steps, and all are kept here, where many sides share one process. Figures are
added to the history, which is also drawn beside it.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any

os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "100000"  # read when oneDNN computes for the first time

import numpy as np
import pandas as pd
from history import RATIOS, add_ratios

from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.loading import load
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.batches import collate, split_by_tokens
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.finetune import build_loop
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.loop import Loop

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "glue_sst2"
SIDES = {
    "full, bf16": ("full", "bf16"),
    "full, fp32": ("full", "fp32"),
    "LoRA": ("lora", "bf16"),
    "LoRA, q and v": ("lora, targets: [query, value]", "bf16"),
    "bottleneck": ("bottleneck", "bf16"),
    "biases": ("partial, biases: true", "bf16"),
    "last two layers": ("partial, last_layers: 2", "bf16"),
}
Times = dict[str, list[float]]


def main() -> None:
    """Measure, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6920, help="rows of SST-2")
    parser.add_argument("--steps", type=int, default=20, help="turns")
    parser.add_argument("--history", type=Path, default=RATIOS)
    args = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"no {DATA}: this benchmark needs the shared folder beside the checkout")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.rows, args.steps)
    add_ratios(figures, args.history)


def measure(folder: Path, rows: int, turns: int) -> dict[str, float]:
    """All figures by name."""
    frame = pd.read_csv(DATA / "train.tsv", sep="\t", quoting=3).dropna().sample(n=rows, random_state=7)
    frame.to_csv(folder / "train.tsv", sep="\t", quoting=3, index=False)
    loops = {name: ready(folder, name, *side) for name, side in SIDES.items()}
    costs = in_turn({name: stepping(loop, turns) for name, loop in loops.items()}, turns, turns)
    base = costs.pop("full, bf16")
    figures = {f"step: {name} over full, bf16": ratio(times, base) for name, times in costs.items()}
    figures["step: bf16 over fp32"] = ratio(base, costs["full, fp32"])
    full = loops["full, bf16"]
    both = in_turn({"ours": stepping(full, turns), "bare": bare(full, turns)}, turns, turns)
    figures["loop over a bare loop on the same rows"] = ratio(both["ours"], both["bare"])
    figures["padded tokens over real tokens"] = padding(full)
    by_length = {name: scoring(loops[f"full, {name}"], True) for name in ("bf16", "fp32")}
    scores = in_turn({**by_length, "in order": scoring(loops["full, fp32"], False)}, 3)
    for name in by_length:
        figures[f"scoring by length in {name} over in order in fp32"] = ratio(scores[name], scores["in order"])
    speeds = in_turn(encoding(folder, rows), 3)
    figures["encoding: rows per second over datasets.map"] = ratio(speeds["datasets.map"], speeds["ours"])
    return figures


def recipe_for(folder: Path, strategy: str, precision: str) -> Recipe:
    """SST-2's recipe over some rows, in a store of its own."""
    return load(
        ROOT / "deployments" / "recipes" / "sst2.yaml",
        [
            *(f"data.source.train={folder / 'train.tsv'}", "data.split.validation=0", "regularizers=[]"),
            *(f"strategies=[{{kind: {strategy}}}]", f"execution.precision={precision}"),
            f"execution.store={folder / 'store'}",
        ],
    )


def ready(folder: Path, name: str, strategy: str, precision: str) -> Loop:
    """A training of one side before its first step."""
    return begun(recipe_for(folder, strategy, precision), folder / "work" / name)


def begun(recipe: Recipe, work: Path) -> Loop:
    """A training before its first step; its recipe's store is a folder."""
    encoded = steps.encode(recipe)
    data = steps.prepare(recipe, encoded)
    start = steps.initialise(recipe, data)
    shards = Path(recipe.execution.store) / "steps" / "shard"
    loop = build_loop(recipe, Inputs(data.folder, shards, encoded.base.folder, start.folder), work)
    loop.begin()
    return loop


def in_turn(
    sides: dict[str, Callable[[], object]], turns: int, warm: int = 1, clock: Callable[[], float] = time.perf_counter
) -> Times:
    """Seconds of each side in each turn, in another order every time; the first turns warm up and do not count."""
    times: Times = {name: [] for name in sides}
    for turn in range(warm + turns):
        for name in random.Random(turn).sample(list(sides), len(sides)):
            began = clock()
            sides[name]()
            if turn >= warm:
                times[name].append(clock() - began)
    return times


def ratio(seconds: list[float], others: list[float]) -> float:
    """The median of the ratios turn by turn."""
    return statistics.median(one / other for one, other in zip(seconds, others, strict=True))


def stepping(loop: Loop, turns: int | None = None) -> Callable[[], object]:
    """Takes the next step of a training's first epoch, or of so many of its steps, round and round."""
    rows, number = cycle(loop.plans[0][:turns]), count()

    def step() -> None:
        switch(loop)
        loop.stepper.step(next(rows), next(number), 0.5)

    return step


def switch(loop: Loop) -> None:
    """Accelerate has one precision in a process: that of the side whose turn it is."""
    loop.accelerator = loop.stepper.accelerator = accelerator(loop.recipe.execution)


def bare(loop: Loop, turns: int) -> Callable[[], object]:
    """The same rows through a loop of five lines, on a model as it comes: forward, backward, clipping, AdamW."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from pipeline_lib.models.base_model import locate_base

    model: Any = AutoModelForSequenceClassification.from_pretrained(locate_base(loop.recipe.model)).train()
    rows = cycle(loop.plans[0][:turns])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)

    def step() -> None:
        batch, targets = collate(loop.train, next(rows), loop.pad)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**batch).logits
        torch.nn.functional.cross_entropy(logits.float(), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def padding(loop: Loop) -> float:
    """Tokens that go through the model in an epoch, over those that are text."""
    training, lengths = loop.recipe.training, loop.train.lengths
    parts = [part for rows in loop.plans[0] for part in split_by_tokens(rows, lengths, training.batch_tokens)]
    given = (collate(loop.train, part, loop.pad, multiple=loop.stepper.multiple)[0]["input_ids"] for part in parts)
    return sum(ids.numel() for ids in given) / int(lengths.sum())


def scoring(loop: Loop, sorted_by_length: bool) -> Callable[[], object]:
    """Logits of all training rows: in parts of like length, or 32 at a time as they stand."""
    import torch

    every = np.arange(len(loop.train))
    parts = (
        split_by_tokens(every, loop.train.lengths, 4096)
        if sorted_by_length
        else np.array_split(every, len(every) // 32)
    )

    def score() -> None:
        switch(loop)
        loop.model.eval()
        with torch.inference_mode(), loop.accelerator.autocast():
            for part in parts:
                loop.model(**collate(loop.train, part, loop.pad)[0])

    return score


def encoding(folder: Path, rows: int) -> dict[str, Callable[[], object]]:
    """Files to Parquet shards, by ours and by `datasets.map`."""
    import datasets
    from transformers import AutoTokenizer

    from pipeline_lib.data.shards import write_shard
    from pipeline_lib.models.base_model import locate_base

    recipe = recipe_for(folder, "full", "fp32")
    tokenizer = AutoTokenizer.from_pretrained(locate_base(recipe.model))
    many = folder / "many.tsv"
    pd.concat([pd.read_csv(folder / "train.tsv", sep="\t", quoting=3)] * max(1, 20_000 // rows)).to_csv(
        many, sep="\t", quoting=3, index=False
    )

    def ours() -> None:
        with tempfile.TemporaryDirectory() as shard:
            write_shard(recipe.data, recipe.objective, tokenizer, [many], Path(shard))

    def mapped() -> None:
        frame = pd.read_csv(many, sep="\t", quoting=3).dropna()
        table = datasets.Dataset.from_pandas(frame, preserve_index=False)
        with tempfile.TemporaryDirectory() as shard:
            table.map(lambda batch: tokenizer(batch["sentence"], truncation=True), batched=True).to_parquet(
                f"{shard}/rows.parquet"
            )

    datasets.disable_progress_bars()
    return {"ours": ours, "datasets.map": mapped}


if __name__ == "__main__":
    main()
