"""What many small files cost: against one file with as many rows, in a plan, and for a new file beside stored shards.

    python tests/benchmarks/files.py [--files 1000] [--rows 100] [--turns 3] [--processor]
                                     [--history artifacts/bench/ratios.parquet]

Needs the demo's encoder alone: texts are drawn from its vocabulary. Both sides of a ratio run in turn in one process,
each turn in an empty store. `--processor` counts seconds of the processor, for machines that run other programs too.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from costs import in_turn, ratio
from growth import WORDS, recipe_for, write_rows
from history import RATIOS, add_ratios

from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.plan import plan

STORED = 280
"""Shards beside which one more file is encoded."""
ADDED = 15
"""Files that are added one by one."""


def main() -> None:
    """Measure, print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100, help="rows of a file")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--processor", action="store_true", help="count the processor's seconds, not the clock's")
    parser.add_argument("--history", type=Path, default=RATIOS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.files, args.rows, args.turns, args.processor)
    add_ratios(figures, args.history)


def measure(folder: Path, files: int, rows: int, turns: int, processor: bool) -> dict[str, float]:
    """All figures by name."""
    clock = time.process_time if processor else time.perf_counter
    many, one = folder / "many", folder / "one"
    write_files(many, files, rows)
    write_rows(one, files * rows, WORDS)
    sides = {name: encoding(place) for name, place in (("many", many), ("one", one))}
    encoded = in_turn(sides, turns, clock=clock)
    sides = {name: preparing(place) for name, place in (("many", many), ("one", one))}
    prepared = in_turn(sides, turns, clock=clock)
    planned = planning(many)
    sides = {"beside": adding(folder / "beside", STORED, rows), "alone": adding(folder / "alone", 1, rows)}
    added = in_turn(sides, ADDED, clock=clock)
    name = f"{files:,} files of {rows} rows"
    return {
        f"encoding: {name} over one file": ratio(encoded["many"], encoded["one"]),
        f"encoding and preparing: {name} over one file": ratio(prepared["many"], prepared["one"]),
        f"plan over {name}: seconds": statistics.median(planned() for _ in range(turns)),
        f"encoding: a file beside {STORED} stored shards over one beside 1": ratio(added["beside"], added["alone"]),
    }


def write_files(folder: Path, files: int, rows: int) -> None:
    """So many files, all of them different."""
    for number in range(files):
        write_rows(folder, rows, WORDS, number)


def encoding(folder: Path) -> Callable[[], object]:
    """Encode all files of a folder into an empty store that has only the base."""
    recipe = recipe_for(folder, rows=16)

    def encode() -> None:
        shutil.rmtree(folder / "store" / "steps" / "shard", ignore_errors=True)
        steps.encode(recipe)

    steps.fetch_base(recipe)
    return encode


def preparing(folder: Path) -> Callable[[], object]:
    """Encode all files of a folder into an empty store that has only the base, and divide their rows into splits."""
    recipe = recipe_for(folder, rows=16)

    def prepare() -> None:
        for step in ("shard", "prepare"):
            shutil.rmtree(folder / "store" / "steps" / step, ignore_errors=True)
        steps.prepare(recipe)

    steps.fetch_base(recipe)
    return prepare


def planning(folder: Path) -> Callable[[], float]:
    """Seconds of a plan over the files of a folder, all of them stored."""
    recipe = recipe_for(folder, rows=16)

    def measured() -> float:
        began = time.perf_counter()
        plan(recipe)
        return time.perf_counter() - began

    return measured


def adding(folder: Path, stored: int, rows: int) -> Callable[[], object]:
    """Encode one file, new in every turn, into a store with the shards of so many others."""
    write_files(folder, stored, rows)
    steps.encode(recipe_for(folder, rows=16))
    waiting = folder / "waiting"
    for number in range(1 + ADDED):  # the first one warms up
        write_rows(waiting, rows, WORDS, stored + number)
    files = iter(sorted((waiting / "train").iterdir()))
    new = folder / "new.tsv"
    recipe = recipe_for(folder, rows=16, more=[f"data.source.train={new}"])

    def add_file() -> None:
        next(files).replace(new)
        steps.encode(recipe)

    return add_file


if __name__ == "__main__":
    main()
