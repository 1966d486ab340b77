"""Write a trained decoder as one GGUF file, which llama.cpp runs."""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.export.gguf_file import ARCHITECTURES, gguf_refusal, write_file
from pipeline_lib.export.gguf_vocabulary import unknown_tokenizer
from pipeline_lib.export.plain_weights import load_plain, refuse_overflow, weights_format
from pipeline_lib.export.verification import model_outputs, require_equal
from pipeline_lib.models.base_model import LOCAL, load_tokenizer
from pipeline_lib.store.lineage import Lineage

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILE = "model.gguf"
SAMPLE = "Tunesmith's 12,345 tests:\n\tnaïve Größe, 東京 🙂 — (x += 1)"
"""A text on which the tokenizer is verified, besides the rows."""


def write_gguf(lineage: Lineage, out: Path, rows: "pyarrow.Table | None" = None) -> None:
    """Write model.gguf with weights, tokenizer and chat template, and verify the result.

    Args:
        lineage: The trained model, and the folder of its base if it is stored without it.
        out: The folder to write to.
        rows: Encoded rows to verify on; without any, a built-in sentence.

    Raises:
        RecipeError: If the file cannot hold the architecture or the tokenizer.
    """
    model, inputs, expected = load_plain(lineage.model, lineage.base, rows)
    refuse_architecture(model)
    tokenizer = load_tokenizer(lineage.model)
    dtype = weights_format(lineage.base) if lineage.base else "float32"
    require_equal(model_outputs(model, inputs), expected, "gguf", "transformers")
    _round_matrices(model, dtype)
    rounded = model_outputs(model, inputs)
    write_file(model, tokenizer, dtype, lineage.name, out / FILE)
    _verify_weights(out, inputs, rounded)
    texts = tokenizer.batch_decode([ids[0].tolist() for ids in inputs], skip_special_tokens=True)
    _verify_tokenizer(out, tokenizer, [*texts, SAMPLE])


def refuse_architecture(model: "PreTrainedModel") -> None:
    """Raise RecipeError unless llama.cpp computes a model of this kind, with these settings, in the same way."""
    config, family = model.config, model.config.model_type
    if family not in ARCHITECTURES or not type(model).__name__.endswith("ForCausalLM"):
        problem = f"is verified only for decoders of {', '.join(ARCHITECTURES)}, but this is a {type(model).__name__}"
        raise gguf_refusal(problem)
    rope = config.rope_parameters
    layers = getattr(config, "layer_types", None) or []
    unknown = {
        f"rotary positions of the type {rope['rope_type']}": rope["rope_type"] != "default",
        "rotary positions in a part of each head": rope.get("partial_rotary_factor", 1) != 1,
        "attention in a sliding window": bool(config.to_dict().get("sliding_window")) or "sliding_attention" in layers,
        f"the activation {config.hidden_act}": config.hidden_act != "silu",
        "biases": family != "qwen2" and any(name.endswith(".bias") for name, _ in model.named_parameters()),
    }
    for setting, is_used in unknown.items():
        if is_used:
            raise gguf_refusal(f"was not verified for {setting}, which this {family} has")


def _round_matrices(model: "PreTrainedModel", dtype: str) -> None:
    """Round the matrices to a data type; they stay in fp32."""
    import torch

    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data = weight.data.to(getattr(torch, dtype)).float()
    refuse_overflow(model, dtype)


def _verify_weights(out: Path, inputs: "list[Tensor]", expected: "list[Tensor]") -> None:
    """Read the file with transformers, and compare what it computes."""
    import torch
    from transformers import AutoModelForCausalLM

    with redirect_stderr(StringIO()):  # a progress bar
        reloaded = AutoModelForCausalLM.from_pretrained(out, gguf_file=FILE, dtype=torch.float32, **LOCAL)
    require_equal(model_outputs(reloaded.eval(), inputs), expected, "gguf", "transformers")


def _verify_tokenizer(out: Path, tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> None:
    """Read the tokenizer with transformers, and compare the tokens of some texts."""
    from transformers import AutoTokenizer

    reloaded = AutoTokenizer.from_pretrained(out, gguf_file=FILE, **LOCAL)
    for text in map(str.strip, texts):  # transformers reads a space in front of a text otherwise than llama.cpp does
        if reloaded(text)["input_ids"] != tokenizer(text)["input_ids"]:
            raise unknown_tokenizer(f"this tokenizer (it splits {text!r} differently when it is read back)")
    if (reloaded.chat_template or "") != (tokenizer.get_chat_template() if tokenizer.chat_template else ""):
        raise unknown_tokenizer("the chat template")
