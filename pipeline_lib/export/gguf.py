"""Write a trained decoder as one GGUF file, which llama.cpp runs."""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.gguf_vocabulary import unknown_tokenizer, vocabulary_of
from pipeline_lib.export.plain_weights import load_plain, refuse_overflow, weights_format
from pipeline_lib.export.verification import model_outputs, require_equal
from pipeline_lib.models.base_model import LOCAL, load_tokenizer
from pipeline_lib.store.lineage import Lineage

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from gguf import GGUFWriter
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILE = "model.gguf"
ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""The name in `gguf.MODEL_ARCH` by family: those whose files were compared with their models."""
TYPES = {"float32": ("F32", "ALL_F32"), "float16": ("F16", "MOSTLY_F16"), "bfloat16": ("BF16", "MOSTLY_BF16")}
"""GGUF's names of a format, for the matrices and for the file; vectors are always in fp32."""
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
    _write(model, tokenizer, dtype, lineage.name, out / FILE)
    _verify_weights(out, inputs, rounded)
    texts = tokenizer.batch_decode([ids[0].tolist() for ids in inputs], skip_special_tokens=True)
    _verify_tokenizer(out, tokenizer, [*texts, SAMPLE])


def refuse_architecture(model: "PreTrainedModel") -> None:
    """Raise RecipeError unless llama.cpp computes a model of this kind, with these settings, in the same way."""
    config, family = model.config, model.config.model_type
    if family not in ARCHITECTURES or not type(model).__name__.endswith("ForCausalLM"):
        problem = f"was verified for decoders of {', '.join(ARCHITECTURES)}, and this is a {type(model).__name__}"
        raise _refusal(problem)
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
            raise _refusal(f"was not verified for {setting}, which this {family} has")


def _round_matrices(model: "PreTrainedModel", dtype: str) -> None:
    """Round the matrices to a data type; they stay in fp32."""
    import torch

    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data = weight.data.to(getattr(torch, dtype)).float()
    refuse_overflow(model, dtype)


def _write(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", dtype: str, name: str, path: Path) -> None:
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, LlamaFileType

    architecture = MODEL_ARCH[ARCHITECTURES[model.config.model_type]]
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[architecture])
    writer.add_type("model")
    writer.add_name(name or "model")
    writer.add_file_type(LlamaFileType[TYPES[dtype][1]])
    _add_sizes(writer, model.config)
    _add_tokenizer(writer, tokenizer, model)
    _add_weights(writer, model, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: "GGUFWriter", config: Any) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: "GGUFWriter", tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    """Add tokens, special tokens and chat template."""
    vocabulary = vocabulary_of(tokenizer, model.config.vocab_size)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.adds_space)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    special = {
        writer.add_bos_token_id: tokenizer.bos_token_id,
        writer.add_eos_token_id: tokenizer.eos_token_id,
        writer.add_unk_token_id: tokenizer.unk_token_id,
        writer.add_pad_token_id: tokenizer.pad_token_id,
        writer.add_eot_token_id: _turn_end(tokenizer, model),
    }
    for add, index in special.items():
        if index is not None:
            add(index)
    begins, ends = _framed(tokenizer)
    writer.add_add_bos_token(begins)
    writer.add_add_eos_token(ends)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.get_chat_template())


def _turn_end(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> int | None:
    """Return the token that ends an answer, if it is not the one that ends a text."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    others = [end for end in (ends if isinstance(ends, list) else [ends]) if end not in (None, tokenizer.eos_token_id)]
    return others[0] if others else None


def _framed(tokenizer: "PreTrainedTokenizerBase") -> tuple[bool, bool]:
    """Return whether the tokenizer puts its first and its last special token around a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    for begins in (False, True):
        for ends in (False, True):
            frame = [tokenizer.bos_token_id] * begins + plain + [tokenizer.eos_token_id] * ends
            if frame == framed:
                return begins, ends
    raise unknown_tokenizer(f"the special tokens around a text ({tokenizer.convert_ids_to_tokens(framed)})")


def _add_weights(writer: "GGUFWriter", model: "PreTrainedModel", dtype: str) -> None:
    from gguf import MODEL_ARCH, GGMLQuantizationType, get_tensor_name_map
    from gguf.quants import quantize

    config = model.config
    architecture = MODEL_ARCH[ARCHITECTURES[config.model_type]]
    names = get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in model.named_parameters():  # a tied output matrix comes once, as the embeddings
        module = name.split(".")[-2]
        weights = parameter.detach().numpy()
        if architecture == MODEL_ARCH.LLAMA and module in heads:
            weights = _interleave(weights, heads[module])
        kind = GGMLQuantizationType[TYPES[dtype][0] if weights.ndim > 1 else "F32"]
        gguf_name = names.get_name(name, (".weight", ".bias"))
        if gguf_name is None:
            raise _refusal(f"has no place for the weights {name}")
        writer.add_tensor(gguf_name, quantize(weights, kind), raw_dtype=kind)


def _interleave(weights: "numpy.ndarray", heads: int) -> "numpy.ndarray":
    """Reorder the rows [heads * width, ...] of queries or keys: llama.cpp rotates neighbours, transformers halves."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


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


def _refusal(problem: str) -> RecipeError:
    return RecipeError("--format", "gguf", problem, "Export the model with --format huggingface")
