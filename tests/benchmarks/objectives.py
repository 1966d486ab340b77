"""Every objective on real data: scores with intervals, beside what the model or a copy scored before, as one table.

    python tests/benchmarks/objectives.py [--recipes wnut17 squad ...] [--store FOLDER] [path=value ...]

Needs ../shared. What is in the store already is not trained again, so that a run that broke off goes on.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline_lib.pipeline.run import RunOutcome, run
from pipeline_lib.recipe.loading import load

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
SCORES = {
    "wnut17": ["span_f1"],
    "squad": ["exact_match", "f1"],
    "instruct": ["perplexity", "rougeL"],
    "shakespeare": ["perplexity"],
    "multi30k": ["bleu", "chrf"],
}


def main() -> None:
    """Run the recipes and print the table, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=SCORES, default=list(SCORES))
    parser.add_argument("--store", type=Path, default=Path("artifacts/objectives"))
    parser.add_argument("overrides", nargs="*", help="path=value, as for tunesmith run")
    args = parser.parse_intermixed_args()
    if not SHARED.exists():
        sys.exit(f"no {SHARED}: this benchmark needs the shared folder beside the checkout")
    args.store.mkdir(parents=True, exist_ok=True)
    print("| recipe | metric | before, or a copy | score | interval | test rows | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in args.recipes:
        overrides = [
            f"execution.store={args.store}",
            f"execution.tracking_uri=sqlite:///{args.store.absolute()}/mlflow.db",
        ]
        prepared = PREPARED[name](args.store) if name in PREPARED else []
        recipe = load(ROOT / "deployments" / "recipes" / f"{name}.yaml", [*prepared, *overrides, *args.overrides])
        print("\n".join(rows(name, run(recipe))), flush=True)


def rows(name: str, outcome: RunOutcome) -> list[str]:
    """A line for each metric."""
    metrics = json.loads((outcome.scores.folder / "metrics.json").read_text())
    (before,) = metrics["baselines"].values() or [{}]
    return [
        f"| {name} | {metric} | {number(before.get(metric))} | {number(metrics['metrics'][metric])} "
        f"| {metrics['metrics'][metric]['low']:.3g} to {metrics['metrics'][metric]['high']:.3g} "
        f"| {metrics['rows']:,} | {outcome.model.made['seconds']:.0f} |"
        for metric in SCORES[name]
    ]


def number(score: dict | None) -> str:
    """A score, or nothing."""
    return f"{score['value']:.3g}" if score and score["value"] is not None else ""


def other_articles(store: Path) -> list[str]:
    """XQuAD's English articles that the training file does not have."""
    known = json.loads((SHARED / "data" / "squad2_dev_half" / "dev-v2.0.json").read_text())["data"]
    articles = json.loads((SHARED / "data" / "xquad" / "xquad.en.json").read_text())["data"]
    titles = {article["title"] for article in known}
    others = [article for article in articles if article["title"] not in titles]
    (store / "others.json").write_text(json.dumps({"data": others}))
    return [f"data.source.test={store.absolute() / 'others.json'}"]


def small_t5(store: Path) -> list[str]:
    """A T5 of 3 + 3 layers of random weights, with a vocabulary learned from the training files."""
    folder = store / "small-t5"
    if not folder.exists():
        make_small_t5(folder)
    return [f"model.base={folder.absolute()}"]


def make_small_t5(folder: Path) -> None:
    """Write the model and its tokenizer."""
    import gzip

    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    special = ["<pad>", "</s>", "<unk>"]
    inner = Tokenizer(models.Unigram())
    inner.normalizer = normalizers.NFKC()
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=8000, special_tokens=special, unk_token="<unk>")
    files = [SHARED / "data" / "multi30k" / f"train.{language}.gz" for language in ("en", "de")]
    inner.train_from_iterator((gzip.decompress(file.read_bytes()).decode().splitlines() for file in files), trainer)
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=128, **names)
    torch.manual_seed(0)
    shape = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_heads": 4, "num_layers": 3, "num_decoder_layers": 3}
    config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **shape)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


PREPARED: dict[str, Callable[[Path], list[str]]] = {"squad": other_articles, "multi30k": small_t5}
"""What a recipe needs besides the files of ../shared: overrides that name it."""


if __name__ == "__main__":
    main()
