"""Models of many families with random weights, a layer or two each and a few thousand parameters, made on the spot.

Every family shares one vocabulary (`conftest.word_tokenizer`), written with the special tokens of its kind.
"""

from pathlib import Path
from typing import Any

WIDTH, INNER, POSITIONS = 16, 32, 64
SHAPE: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
INSIDE = {"intermediate_size": INNER, "max_position_embeddings": POSITIONS, "initializer_range": 0.1}
USUAL = SHAPE | INSIDE
GPT2 = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS, "initializer_range": 0.1}
GROUPED = USUAL | {"num_key_value_heads": 1, "head_dim": 8}
EXPERTS = GROUPED | {"num_experts_per_tok": 2, "router_aux_loss_coef": 0.01}
T5 = {"d_model": WIDTH, "d_kv": 8, "d_ff": INNER, "num_layers": 2, "num_heads": 2}
BART = {
    **{"d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 2, "init_std": 0.1},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": INNER, "decoder_ffn_dim": INNER, "max_position_embeddings": POSITIONS},
}
DISENTANGLED = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}

ENCODERS: dict[str, dict[str, Any]] = {
    "albert": USUAL | {"embedding_size": 8},
    "bert": USUAL,
    "big_bird": USUAL | {"attention_type": "original_full"},
    "camembert": USUAL,
    "convbert": USUAL | {"embedding_size": WIDTH, "head_ratio": 1},
    "deberta": USUAL | DISENTANGLED | {"type_vocab_size": 0},
    "deberta-v2": USUAL | DISENTANGLED | {"share_att_key": True, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0},
    "distilbert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": INNER, "max_position_embeddings": 64},
    "electra": USUAL | {"embedding_size": 8},
    "ernie": USUAL,
    "funnel": {"d_model": WIDTH, "n_head": 2, "d_head": 8, "d_inner": INNER, "block_sizes": [1, 1]},
    "longformer": USUAL | {"attention_window": 8, "sep_token_id": 3},
    "mobilebert": USUAL | {"intra_bottleneck_size": 8, "embedding_size": 8},
    "modernbert": USUAL | {"local_attention": 8},
    "mpnet": USUAL,
    "nystromformer": USUAL | {"segment_means_seq_len": POSITIONS, "num_landmarks": POSITIONS},
    "rembert": USUAL | {"input_embedding_size": 8, "output_embedding_size": 8},
    "roberta": USUAL,
    "roberta-prelayernorm": USUAL,
    "roformer": USUAL | {"embedding_size": WIDTH},
    "squeezebert": USUAL | {"embedding_size": WIDTH, "q_groups": 1, "k_groups": 1, "v_groups": 1},
    "xlm-roberta": USUAL,
    "xlnet": {"d_model": WIDTH, "n_layer": 2, "n_head": 2, "d_inner": INNER},
}
DECODERS: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": WIDTH, "n_layer": 2, "n_head": 2, "initializer_range": 0.1},
    "deepseek_v3": USUAL
    | {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "n_group": 1, "topk_group": 1}
    | {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
    | {"first_k_dense_replace": 1, "num_key_value_heads": 2},
    "falcon": SHAPE | {"initializer_range": 0.1},
    "gemma": GROUPED,
    "gemma2": GROUPED,
    "gemma3_text": GROUPED,
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gpt_neo": SHAPE
    | {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
    | {"intermediate_size": INNER, "max_position_embeddings": POSITIONS, "window_size": 8, "initializer_range": 0.1},
    "gpt_neox": USUAL,
    "gpt_oss": EXPERTS | {"num_local_experts": 4, "sliding_window": 8, "router_aux_loss_coef": 0.9},
    "gptj": GPT2 | {"rotary_dim": 4},
    "granite": GROUPED,
    "llama": GROUPED,
    "mistral": GROUPED,
    "mixtral": EXPERTS | {"num_local_experts": 4},
    "olmo2": GROUPED,
    "olmoe": EXPERTS | {"num_experts": 4},
    "opt": SHAPE | {"ffn_dim": INNER, "max_position_embeddings": POSITIONS, "word_embed_proj_dim": WIDTH},
    "phi": USUAL,
    "phi3": USUAL,
    "qwen2": GROUPED,
    "qwen2_moe": EXPERTS | {"num_experts": 4, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8},
    "qwen3": GROUPED,
    "qwen3_moe": EXPERTS | {"num_experts": 4, "moe_intermediate_size": 8},
    "smollm3": GROUPED,
    "stablelm": USUAL | {"num_key_value_heads": 2},
}
WRITERS: dict[str, dict[str, Any]] = {
    "bart": BART,
    "led": BART | {"attention_window": 8, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64},
    "longt5": T5 | {"local_radius": 8},
    "m2m_100": BART,
    "marian": BART,
    "mbart": BART,
    "mt5": T5 | {"feed_forward_proj": "gated-gelu"},
    "pegasus": BART,
    "t5": T5,
}
FAMILIES = ENCODERS | DECODERS | WRITERS

STRATEGIES = (
    *("full", "head", "last layer", "biases", "layer norms", "prompt", "deep prompt"),
    *("houlsby", "parallel", "lora", "ia3"),
)
HEADED = ("classification", "labelling", "reading")
OBJECTIVES = {
    **dict.fromkeys(ENCODERS, (*HEADED, "cloze", "masked")),
    **dict.fromkeys(DECODERS, (*HEADED, "dialogue", "causal")),
    **dict.fromkeys(WRITERS, (*HEADED, "seq2seq", "spans")),
}
"""What makes sense for the families, by the names in `contract.py`; some of them lack a head."""


def rotation(family: str, turns: int = 1) -> list[tuple[str, str]]:
    """Pairs of objective and strategy: each strategy with `turns` objectives, which are others for the next family."""
    objectives, first = OBJECTIVES[family], [*FAMILIES].index(family)
    return [
        (objectives[(first + index + 2 * turn) % len(objectives)], strategy)
        for index, strategy in enumerate(STRATEGIES)
        for turn in range(turns)
    ]


def write_family(family: str, tokenizer: Any, folder: Path, **changes: Any) -> None:
    """Write a model of the family with `tokenizer`'s vocabulary to a folder; `changes` override its configuration."""
    import torch
    import transformers as hf

    torch.manual_seed(0)
    ends = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": 2, "eos_token_id": 3}
    more = {"decoder_start_token_id": 0} if family in WRITERS else {}
    settings = FAMILIES[family] | {"vocab_size": len(tokenizer)} | ends | more | changes
    config = hf.AutoConfig.for_model(family, **settings)
    kinds = {**dict.fromkeys(ENCODERS, hf.AutoModelForMaskedLM), **dict.fromkeys(WRITERS, hf.AutoModelForSeq2SeqLM)}
    kinds["xlnet"] = hf.AutoModel  # it predicts words in an order of its own
    kind: Any = kinds.get(family, hf.AutoModelForCausalLM)
    kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tokenizer_kind(family: str) -> str:
    """The kind of tokenizer, as `conftest.word_tokenizer` calls it after one of its families."""
    if family == "longformer":  # which counts separators
        return "roberta"
    return "bert" if family in ENCODERS else "t5" if family in WRITERS else "gpt2"
