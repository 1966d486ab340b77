"""Write a decoder's weights and metadata under the names of a GGUF file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.gguf_vocabulary import unknown_tokenizer, vocabulary_of

if TYPE_CHECKING:
    import numpy
    from gguf import GGUFWriter
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""The name in `gguf.MODEL_ARCH` by family: those whose files were compared with their models."""
TYPES = {"float32": ("F32", "ALL_F32"), "float16": ("F16", "MOSTLY_F16"), "bfloat16": ("BF16", "MOSTLY_BF16")}
"""GGUF's names of a format, for the matrices and for the file; vectors are always in fp32."""


def gguf_refusal(problem: str) -> RecipeError:
    """Return the error for a model that a GGUF file cannot hold."""
    return RecipeError("--format", "gguf", problem, "Export the model with --format huggingface")


def write_file(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", dtype: str, name: str, path: Path
) -> None:
    """Write weights, tokenizer and chat template of a decoder.

    Args:
        model: The decoder in fp32, with matrices that hold numbers of the type `dtype` only.
        tokenizer: Its tokenizer.
        dtype: The type of the matrices in the file: float32, float16 or bfloat16.
        name: The name that programs show for the model.
        path: The file.

    Raises:
        RecipeError: llama.cpp has no such tokenizer, or no place for a weight.
    """
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
    begins, ends = _special_token_flags(tokenizer)
    writer.add_add_bos_token(begins)
    writer.add_add_eos_token(ends)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.get_chat_template())


def _turn_end(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> int | None:
    """Return the token that ends an answer, if it is not the one that ends a text."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    others = [end for end in (ends if isinstance(ends, list) else [ends]) if end not in (None, tokenizer.eos_token_id)]
    return others[0] if others else None


def _special_token_flags(tokenizer: "PreTrainedTokenizerBase") -> tuple[bool, bool]:
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
            raise gguf_refusal(f"has no place for the weights {name}")
        writer.add_tensor(gguf_name, quantize(weights, kind), raw_dtype=kind)


def _interleave(weights: "numpy.ndarray", heads: int) -> "numpy.ndarray":
    """Reorder the rows [heads * width, ...] of queries or keys: llama.cpp rotates neighbours, transformers halves."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)
