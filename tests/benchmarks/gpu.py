"""Speed on a GPU, beside the Hugging Face Trainer in the same run: a BERT-base and a GPT of a billion parameters.

    python tests/benchmarks/gpu.py [--shapes bert gpt] [--steps 50] [--tiny] [--history artifacts/bench/gpu.parquet]

Weights are random, rows are words of the demo's encoder. Both sides take steps of as many rows in bf16, of all weights
and of LoRA; the Trainer has groups of like length and the fused AdamW. A share is that of the rate of large bf16
products measured in the same run: 6 operations a parameter and token (4 with LoRA), attention's products not counted.
`--tiny` tries the script itself, on any machine: its figures mean nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from costs import begun, stepping
from growth import locate_encoder, recipe_for, vocabulary
from history import FOLDER, add

from pipeline_lib.training.batches import collate
from pipeline_lib.training.loop import Loop

WARM = 5
"""Steps before those that count."""


class Shape(NamedTuple):
    """A model, what it learns, and how many rows of how many words a step has."""

    family: str
    sizes: dict[str, int]
    objective: str
    rows: int
    words: tuple[int, int]


_GPT = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192}
SHAPES = {
    "bert": Shape("bert", {}, "{kind: text_classification}", 32, (8, 126)),
    "gpt": Shape("llama", _GPT, "{kind: language_modeling, modeling: causal, block_size: 1024}", 8, (1200, 1200)),
}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIDES = {"full": "[{kind: full}]", "LoRA": "[{kind: lora}]"}


def main() -> None:
    """Measure all, print a line for each side, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--history", type=Path, default=FOLDER / "gpu.parquet")
    args = parser.parse_args()
    if not (args.tiny or torch.cuda.is_available()):
        sys.exit("no GPU that torch can use: nothing measured (--tiny tries the script on the CPU)")
    rate, figures = matmul_rate(256 if args.tiny else 8192), []
    print(f"measured matmul rate: {rate / 1e12:.1f} TFLOP/s in bf16")
    print("| model | trained | side | rows/s | tokens/s | share |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.shapes:
            for figure in measured(Path(folder) / name, SHAPES[name], args.steps, args.tiny, rate):
                print(
                    "| {} | {side} | {by} | {rows:,.0f} | {tokens:,.0f} | {share:.1%} |".format(name, **figure),
                    flush=True,
                )
                figures.append({"model": name, **figure})
    add(figures, args.history)


def matmul_rate(size: int) -> float:
    """Operations per second of bf16 products of squares."""
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device()) for _ in range(2))
    seconds = min(timed(lambda: a @ b) for _ in range(20))
    return 2 * size**3 / seconds


def device() -> str:
    """Where all is computed."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def timed(act: Callable[[], object]) -> float:
    """Seconds until the device has done it."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    act()
    wait()
    return time.perf_counter() - began


def measured(folder: Path, shape: Shape, count: int, tiny: bool, rate: float) -> Iterator[dict[str, Any]]:
    """Rows and tokens per second, and their share of the matmul rate, of each side."""
    base = write_model(folder / "base", shape, tiny)
    for side, strategies in SIDES.items():
        loop = ready(folder / side, shape, base, strategies, count)
        weights = sum(weight.numel() for weight in loop.model.parameters())
        speeds = {"Tunesmith": ours(loop, count), "Trainer": theirs(loop, base, side, count)}
        for by, (rows, tokens) in speeds.items():
            share = (6 if side == "full" else 4) * weights * tokens / rate
            yield {"side": side, "by": by, "rows": rows, "tokens": tokens, "share": share}


def write_model(folder: Path, shape: Shape, tiny: bool) -> str:
    """A folder with the demo's tokenizer and a model of random weights."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(locate_encoder())
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **(TINY if tiny else shape.sizes)}
    config = AutoConfig.for_model(shape.family, **sizes, max_position_embeddings=2048)
    kind = AutoModel if shape.family == "bert" else AutoModelForCausalLM
    kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def ready(folder: Path, shape: Shape, base: str, strategies: str, count: int) -> Loop:
    """A training before its first step, with rows enough."""
    (folder / "train").mkdir(parents=True)
    draw, known = np.random.default_rng(7), vocabulary()
    lengths = draw.integers(*shape.words, shape.rows * (count + WARM), endpoint=True)
    frame = pd.DataFrame({"sentence": [" ".join(draw.choice(known, length)) for length in lengths]})
    for name, rows in (("train/rows", frame), ("test", frame[:2])):
        rows.assign(label=np.arange(len(rows)) % 2).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    columns = ["data.columns={text: sentence}", "evaluation.metrics=[]"] if shape.family != "bert" else []
    settings = [f"objective={shape.objective}", f"strategies={strategies}", "training.batch_tokens=65536", *columns]
    recipe = recipe_for(folder, shape.rows, base, [*settings, "execution.precision=bf16"])
    return begun(recipe, folder / "work")


def ours(loop: Loop, count: int) -> tuple[float, float]:
    """Rows and tokens per second of our steps."""
    take, rows = stepping(loop), loop.plans[0][WARM:][:count]
    for _ in range(WARM):
        take()
    seconds = timed(lambda: [take() for _ in rows])
    taken = np.concatenate(rows)
    return len(taken) / seconds, int(loop.train.lengths[taken].sum()) / seconds


def theirs(loop: Loop, base: str, side: str, count: int) -> tuple[float, float]:
    """The same of the Trainer's, on the rows that were encoded for ours."""
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM:
                timed(lambda: None)
                self.began = time.perf_counter()

    clock, size, read = Clock(), loop.recipe.training.batch_size, []

    def batch(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        given, targets = collate(loop.train, np.array([row["row"] for row in rows]), loop.pad)
        read.append((len(rows), int(given["attention_mask"].sum())))
        labels = targets if loop.recipe.objective.kind == "text_classification" else given["input_ids"]
        return given | {"labels": labels}

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, max_steps=count + WARM, per_device_train_batch_size=size, bf16=True, report_to=[],
            disable_tqdm=True, save_strategy="no", logging_strategy="no", remove_unused_columns=False,
            length_column_name="length", train_sampling_strategy="group_by_length", use_cpu=device() == "cpu",
        )  # fmt: skip
        rows = [{"row": row, "length": int(length)} for row, length in enumerate(loop.train.lengths)]
        trainer = Trainer(plain(loop, base, side), settings, batch, Dataset.from_list(rows), callbacks=[clock])
        trainer.train()
        timed(lambda: None)
        seconds = time.perf_counter() - clock.began
    taken, tokens = np.sum(read[WARM:][:count], axis=0)  # the Trainer reads ahead of its steps
    return taken / seconds, tokens / seconds


def plain(loop: Loop, base: str, side: str) -> Any:
    """The same model as transformers and PEFT make it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    classify = loop.recipe.objective.kind == "text_classification"
    model = (AutoModelForSequenceClassification if classify else AutoModelForCausalLM).from_pretrained(base)
    return (
        model if side == "full" else get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    )


if __name__ == "__main__":
    main()
