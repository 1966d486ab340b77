"""Seconds per epoch of a small Llama of random weights with padded and with packed rows, in turn in one process.

    python tests/benchmarks/packing.py [--rows 320] [--batch 16] [--rounds 2] [--precision fp32]

Rows are short and of mixed lengths: log-normal with a median of 40 tokens, 4 to 256. Only optimizer steps are timed.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2]))

import numpy as np
from decoder_memory import write_base

from pipeline_lib.data.examples import IGNORED, Examples, Ragged, SplitExamples
from pipeline_lib.models.building import load_initial, write_initial
from pipeline_lib.recipe.schema import check
from pipeline_lib.training.batches import plan_steps, split_by_tokens
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.fast_paths.attention import attend_faster
from pipeline_lib.training.loop import Loop
from pipeline_lib.training.parameters import freeze_and_resolve

WIDTH, LAYERS, VOCABULARY = 384, 6, 4096


def examples(rows: int) -> Examples:
    """Rows of random tokens, of which the second half is learned."""
    random = np.random.default_rng(0)
    lengths = random.lognormal(np.log(40), 0.8, rows).astype(np.int64).clip(4, 256)
    offsets = np.append(0, np.cumsum(lengths))
    ids = random.integers(3, VOCABULARY, offsets[-1], dtype=np.int32)
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    targets = np.where(places >= np.repeat(lengths // 2, lengths), ids, IGNORED)
    return Examples(Ragged(ids, offsets), Ragged(targets, offsets), aligned=True)


def loop_over(base: Path, train: Examples, packing: bool, batch: int, precision: str, folder: Path) -> Loop:
    """A training of all parameters, ready for its first step."""
    recipe = check(
        {
            "name": "packing",
            "data": {"source": {"kind": "csv", "train": "none.csv"}},
            "model": {"base": str(base)},
            "objective": {"kind": "causal_lm"},
            "training": {"batch_size": batch, "packing": packing},
            "execution": {"device": "cpu", "precision": precision},
        }
    )
    initial, work = folder / f"initial-{packing}", folder / f"work-{packing}"
    initial.mkdir()
    work.mkdir()
    write_initial(recipe.objective, recipe.strategies, base, [], 0, initial)
    model, head = load_initial(base, initial)
    attend_faster(model)
    table = freeze_and_resolve(model, head, recipe.strategies, 1e-4, 0.0)
    nothing: Any = SplitExamples(None, [], Examples(Ragged.from_lists([]), Ragged.from_lists([]), aligned=True))  # type: ignore[arg-type]
    here = accelerator(recipe.execution)
    loop = Loop(recipe, model, head, table, train, nothing, 0, here, Checkpoints(work, here))
    loop.begin()
    return loop


def epoch(loop: Loop, number: int) -> tuple[float, float]:
    """Train one epoch; return its seconds, and those of all threads on the processor."""
    steps = plan_steps(loop.train.group_tokens, loop.recipe.training.batch_size, 0, number)
    begun, busy = time.perf_counter(), time.process_time()
    for index, rows in enumerate(steps):
        loop.stepper.step(rows, index, 1.0)
    return time.perf_counter() - begun, time.process_time() - busy


def padding(train: Examples, batch: int) -> float:
    """Tokens of padded steps, padding included, over the tokens of the rows."""
    lengths = train.group_tokens
    steps = plan_steps(lengths, batch, 0, 0)
    parts = [part for rows in steps for part in split_by_tokens(rows, lengths, 4096)]
    return float(sum(len(part) * lengths[part].max() for part in parts) / lengths.sum())


def main() -> None:
    """Make the model, then train epochs in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, train = Path(name), examples(given.rows)
        write_base(folder, WIDTH, LAYERS, VOCABULARY)
        loops = {
            packing: loop_over(folder, train, packing, given.batch, given.precision, folder)
            for packing in (False, True)
        }
        parameters = sum(parameter.numel() for parameter in loops[True].model.parameters())
        print(f"{parameters:,} parameters, {given.rows:,} rows, {train.lengths.sum():,} tokens, {given.precision}")
        seconds: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for number in range(given.rounds + 1):  # the first one warms up
            for packing, loop in loops.items():
                seconds[packing].append(epoch(loop, number))
    print(f"{'':8} {'padding':>8} {'s per epoch':>12} {'CPU seconds':>12}")
    for packing, label in ((False, "padded"), (True, "packed")):
        ratio = 1.0 if packing else padding(train, given.batch)
        wall, busy = (median(column) for column in zip(*seconds[packing][1:], strict=True))
        print(f"{label:8} {ratio:>8.3f} {wall:>12.2f} {busy:>12.2f}")


if __name__ == "__main__":
    main()
