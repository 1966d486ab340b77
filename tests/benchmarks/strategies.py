"""Every strategy on the same rows: score with its interval, trained parameters, seconds of training, as one table.

    python tests/benchmarks/strategies.py [--sets sst2 banking77] [--strategies full lora ...] [--store FOLDER]

Needs ../shared. What is in the store already is not trained again, so that a run that broke off goes on.
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd
import yaml

from pipeline_lib.pipeline.run import RunOutcome, run
from pipeline_lib.recipe.loading import load

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
ROWS = {"sst2": 6920}
"""Rows of the training file that are read, where that is not all."""
EPOCHS = 3
BOTTLENECK, PROMPT, LORA = {"kind": "bottleneck"}, {"kind": "prompt"}, {"kind": "lora"}
QUERY_VALUE = LORA | {"targets": ["query", "value"], "rate": 20}
STRATEGIES: dict[str, list[dict]] = {
    "full": [{"kind": "full"}],
    "head alone": [{"kind": "partial"}],
    "last two layers": [{"kind": "partial", "last_layers": 2}],
    "gradual unfreezing": [{"kind": "partial", "last_layers": 6, "gradual": True}],
    "biases (BitFit)": [{"kind": "partial", "biases": True}],
    "layer norms": [{"kind": "ln_tuning"}],
    "layerwise rates": [{"kind": "full"}, {"kind": "layerwise_lr", "decay": 0.9}],
    "head first, then all": [{"kind": "full", "start_epoch": 1}],
    "soft prompt": [PROMPT],
    "deep prompt": [PROMPT | {"depth": "all"}],
    "bottleneck, Houlsby": [BOTTLENECK | {"placement": "houlsby"}],
    "bottleneck, Pfeiffer": [BOTTLENECK | {"placement": "pfeiffer"}],
    "bottleneck, parallel": [BOTTLENECK],
    "LoRA": [LORA],
    "LoRA, q and v": [QUERY_VALUE],
    "DoRA, q and v": [QUERY_VALUE | {"dora": True}],
    "rsLoRA, q and v, rank 32": [QUERY_VALUE | {"rslora": True, "rank": 32}],
    "(IA)^3": [{"kind": "ia3"}],
    "bottleneck and deep prompt": [BOTTLENECK | {"placement": "houlsby"}, PROMPT | {"depth": "all"}],
    "LoRA, q and v, layerwise rates": [QUERY_VALUE, {"kind": "layerwise_lr", "decay": 0.9}],
    "last two layers, LoRA, q and v": [{"kind": "partial", "last_layers": 2}, QUERY_VALUE],
}


def main() -> None:
    """Run what is asked for and print the table, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["sst2", "banking77"])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--store", default="artifacts/strategies")
    parser.add_argument("overrides", nargs="*", help="path=value, as for tunesmith run")
    args = parser.parse_intermixed_args()
    if not SHARED.exists():
        sys.exit(f"no {SHARED}: this benchmark needs the shared folder beside the checkout")
    print("| data | strategies | accuracy | interval | trained parameters | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in args.sets:
        for strategy in args.strategies:
            print(row(name, strategy, trained(name, strategy, Path(args.store), args.overrides)), flush=True)


def trained(name: str, strategy: str, store: Path, overrides: list[str]) -> RunOutcome:
    """A run of the data set's recipe with one strategy; the last weights are kept."""
    recipe = load(
        ROOT / "deployments" / "recipes" / f"{name}.yaml",
        [
            f"strategies={yaml.safe_dump(STRATEGIES[strategy], default_flow_style=True)}",
            *([f"data.source.train={some_rows(name, store)}"] if name in ROWS else []),
            *("data.split.validation=0", "regularizers=[]", f"training.epochs={EPOCHS}", "evaluation.baselines=[]"),
            *(f"execution.store={store}", f"execution.tracking_uri=sqlite:///{store.absolute()}/mlflow.db"),
            *overrides,
        ],
    )
    return run(recipe)


def some_rows(name: str, store: Path) -> Path:
    """A part of the training file, always the same."""
    store.mkdir(parents=True, exist_ok=True)
    place = store.absolute() / f"{name}.tsv"
    if not place.exists():
        source = pd.read_csv(SHARED / "glue_sst2" / "train.tsv", sep="\t", quoting=3).dropna()
        source.sample(n=ROWS[name], random_state=7).to_csv(place, sep="\t", quoting=3, index=False)
    return place


def row(name: str, strategy: str, outcome: RunOutcome) -> str:
    """A line of the table."""
    score = json.loads((outcome.scores.folder / "metrics.json").read_text())["metrics"]["accuracy"]
    summary = json.loads((outcome.model.folder / "summary.json").read_text())
    share = summary["trained_parameters"] / summary["parameters"]
    return (
        f"| {name} | {strategy} | {score['value']:.3f} | {score['low']:.3f} to {score['high']:.3f} "
        f"| {summary['trained_parameters']:,} ({share:.1%}) | {outcome.model.made['seconds']:.0f} |"
    )


if __name__ == "__main__":
    main()
