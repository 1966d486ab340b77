"""Peak memory and seconds per step of a decoder of random weights, with each memory switch on and off.

    python tests/benchmarks/decoder_memory.py [--width 1024 --layers 12 --vocabulary 32000] [--steps 4]

Each line is one training in a process of its own, in bf16 on the CPU: its peak memory above that of the imported
libraries. Initialising the model is part of it; data, MLflow and evaluation are not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2]))

SWITCHES: dict[str, dict[str, Any]] = {
    "lora": {"strategy": "lora"},
    "lora, dtype fp32": {"strategy": "lora", "dtype": "fp32"},
    "lora, int8": {"strategy": "lora", "quantization": "int8"},
    "lora, nf4": {"strategy": "lora", "quantization": "nf4"},
    "lora, gradient checkpointing": {"strategy": "lora", "checkpointing": True},
    "full": {"strategy": "full"},
    "full, gradient checkpointing": {"strategy": "full", "checkpointing": True},
}
ROWS, BATCH = 40, 8


def write_base(folder: Path, width: int, layers: int, vocabulary: int) -> None:
    """Write a Llama of random weights in bfloat16, with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    special = ["<pad>", "<s>", "</s>"]
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ends = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **ends).save_pretrained(folder)
    shape = {"hidden_size": width, "intermediate_size": width * 11 // 4, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 1024}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **shape, **heads, **ids))
    model.to(torch.bfloat16).save_pretrained(folder)


def measure(
    base: Path, steps: int, strategy: str, dtype: str = "auto", quantization: str = "", checkpointing: bool = False
) -> dict[str, Any]:
    """Train a few steps in this process."""
    import numpy as np
    import transformers
    from peft import inject_adapter_in_model  # noqa: F401  # imported before the memory of imports is read

    import pipeline_lib.training.loop  # noqa: F401
    from pipeline_lib.recipe.schema import check

    assert transformers.LlamaForCausalLM
    imported = getrusage(RUSAGE_SELF).ru_maxrss
    recipe = check(
        {
            "name": "memory",
            "data": {"source": {"kind": "csv", "train": "none.csv"}},
            "model": {
                "base": str(base),
                "dtype": dtype,
                "quantization": {"kind": quantization} if quantization else None,
            },
            "objective": {"kind": "causal_lm"},
            "strategies": [{"kind": strategy}],
            "training": {"batch_size": BATCH, "gradient_checkpointing": checkpointing},
            "execution": {"device": "cpu", "precision": "bf16"},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        loop = begun_loop(recipe, base, Path(folder))
        begun = time.perf_counter()
        for step in range(steps):
            loop.stepper.step(np.arange(BATCH) + BATCH * step % ROWS, step, 1.0)
        seconds = (time.perf_counter() - begun) / steps
    return {"peak_mib": (getrusage(RUSAGE_SELF).ru_maxrss - imported) >> 10, "seconds": round(seconds, 2)}


def begun_loop(recipe: Any, base: Path, folder: Path, sharding: Any = "none") -> Any:
    """Return a training of questions and answers in an empty folder, ready for its first step."""
    from pipeline_lib.data.examples import SplitExamples
    from pipeline_lib.models.base_model import load_tokenizer
    from pipeline_lib.models.building import load_initial, write_initial
    from pipeline_lib.training.checkpoint import Checkpoints
    from pipeline_lib.training.device import accelerator
    from pipeline_lib.training.loop import Loop
    from pipeline_lib.training.parameters import freeze_and_resolve

    encoded = examples(recipe.objective, load_tokenizer(base))
    nothing = SplitExamples(None, [], encoded)  # type: ignore[arg-type]  # not validated
    initial, work = folder / "initial", folder / "work"
    initial.mkdir()
    work.mkdir()
    parts = (recipe.objective, recipe.strategies, base, [], 0, initial)
    write_initial(*parts, recipe.model.dtype, recipe.model.quantization)  # type: ignore[arg-type]
    model, head = load_initial(base, initial, dtype=recipe.model.dtype)
    table = freeze_and_resolve(model, head, recipe.strategies, 1e-4, 0.0)
    here = accelerator(recipe.execution)
    of_loop = (recipe, model, head, table, encoded, nothing, 0, here, Checkpoints(work, here))
    loop = Loop(*of_loop, sharding=sharding)
    loop.begin()
    return loop


def examples(objective: Any, tokenizer: Any) -> Any:
    """Encode questions and answers of some length."""
    import pyarrow as pa

    rows = []
    for number in range(ROWS):
        prompt = f"Name the number after {number}, in words that rhyme with nothing at all."
        rows.append(objective.clean({"prompt": prompt, "answer": f"It is {number + 1}. " * 6}))
    columns = objective.encode(tokenizer, rows)
    return objective.features(pa.table({name: columns[name] for name in ("input_ids", "target_ids")}), [])


def main() -> None:
    """Make the model, then print one line per switch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.base, given.steps, **SWITCHES[given.only])))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_base(Path(folder), given.width, given.layers, given.vocabulary)
        print(f"{'':30} {'peak MiB':>9} {'s per step':>11}", flush=True)
        for name in SWITCHES:
            command = [sys.executable, __file__, "--only", name, "--base", folder, "--steps", str(given.steps)]
            document = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            print(f"{name:30} {document['peak_mib']:>9,} {document['seconds']:>11.2f}", flush=True)


if __name__ == "__main__":
    main()
