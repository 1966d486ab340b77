"""An exported GGUF file computes what the trained decoder computes. `pytest tests/export/test_gguf.py`."""

import pytest
import torch
from conftest import MOODS, PLACES
from families import write_family
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
from transformers.tokenization_utils_base import generate_merges

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.export import export
from pipeline_lib.export.gguf import refuse_architecture

LORA = {"kind": "lora", "rank": 2}
CAUSAL = {"objective": {"kind": "language_modeling", "modeling": "causal", "block_size": 8}, "evaluation": {}}
SPECIAL = ["<unk>", "<s>", "</s>"]
NAMES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
TEXTS = [f"{text} {place}" for texts in MOODS.values() for text in texts for place in PLACES]
TEMPLATE = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"


def by_score():
    """Characters joined as by SentencePiece, other characters as bytes; like Llama 2's."""
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *sorted(set("".join(TEXTS)) - {" "})]
    for word in sorted({word for text in TEXTS for word in text.split()}):
        tokens += ["▁" + word[:end] for end in range(1, len(word) + 1)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    joined = {token: -index for token, index in vocabulary.items() if token.startswith("▁")}
    merges = generate_merges(vocabulary, joined)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def by_merges(split):
    """Bytes joined by merges; like those of GPT-2 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    pattern = GGUF_PRE_TOKENIZER_SPLITS.get(split)
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, last]) if parts else last
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return tokenizer


MODELS = {
    "llama": ("llama", by_score, {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}),
    "llama 3": ("llama", lambda: by_merges("llama-bpe"), {"num_key_value_heads": 2, "head_dim": 16}),
    "mistral": ("mistral", by_score, {"sliding_window": None}),
    "qwen2": ("qwen2", lambda: by_merges("qwen2"), {"tie_word_embeddings": True, "vocab_size": 448}),
    "qwen3": ("qwen3", lambda: by_merges("gpt-2"), {"head_dim": 128}),
}


def write_base(folder, family, tokenizer, changes):
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **NAMES)
    wrapped.chat_template = TEMPLATE
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    write_family(family, wrapped, folder, **(ends | changes))
    return {"model": {"base": str(folder)}}


@pytest.mark.parametrize(
    ("family", "tokenizer", "changes"),
    [
        pytest.param(*model, id=name, marks=() if index < 1 else pytest.mark.matrix)
        for index, (name, model) in enumerate(MODELS.items())
    ],
)
def test_a_file_writes_what_the_trained_decoder_writes(ran, tmp_path, family, tokenizer, changes):
    trained = ran([LORA], **CAUSAL, **write_base(tmp_path / "base", family, tokenizer(), changes))
    plain, out = export(trained.recipe, tmp_path / "merged"), export(trained.recipe, trained.out, format="gguf")
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "model.gguf"]
    original, written = AutoTokenizer.from_pretrained(plain), AutoTokenizer.from_pretrained(out, gguf_file="model.gguf")
    for text in (TEXTS[3], "Ünknown  words,\n\nand 1,234 numbers"):
        assert written(text)["input_ids"] == original(text)["input_ids"]
    assert written.chat_template == TEMPLATE
    ids = original(TEXTS[3], return_tensors="pt")["input_ids"]
    texts = [
        AutoModelForCausalLM.from_pretrained(folder, **file).generate(ids, max_new_tokens=12, do_sample=False)
        for folder, file in ((plain, {}), (out, {"gguf_file": "model.gguf"}))
    ]
    assert texts[0].tolist() == texts[1].tolist()


def test_matrices_have_the_number_format_of_the_base(ran, tmp_path):
    changes = write_base(tmp_path / "base", "llama", by_score(), {})
    AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16).save_pretrained(tmp_path / "base")
    trained = ran([LORA], **CAUSAL, **changes)
    tensors = GGUFReader(export(trained.recipe, trained.out, format="gguf") / "model.gguf").tensors
    assert {tensor.tensor_type.name for tensor in tensors if "norm" not in tensor.name} == {"BF16"}
    assert {tensor.tensor_type.name for tensor in tensors if "norm" in tensor.name} == {"F32"}


REFUSED = {
    "a classifier": ({}, "this is a LlamaForSequenceClassification"),
    "words": (CAUSAL, "cannot describe a WordLevel tokenizer"),
}


@pytest.mark.parametrize(("changes", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_a_file_cannot_hold_is_refused(ran, changes, problem):
    trained = ran([LORA], "llama", **changes)
    with pytest.raises(RecipeError, match=problem):
        export(trained.recipe, trained.out, format="gguf")
    assert not trained.out.exists()


SETTINGS = {
    "sliding window": ("mistral", {"sliding_window": 16}, "attention in a sliding window"),
    "scaled positions": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        "positions of the type linear",
    ),
    "activation": ("llama", {"hidden_act": "gelu"}, "the activation gelu"),
    "biases": ("llama", {"attention_bias": True}, "biases"),
    "family": ("gemma", {}, "this is a GemmaForCausalLM"),
}


@pytest.mark.parametrize(("family", "changes", "problem"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_were_not_verified_are_refused(family, changes, problem):
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(family, vocab_size=8, num_key_value_heads=1, head_dim=8, **(shape | changes))
    with torch.device("meta"), pytest.raises(RecipeError, match=problem):
        refuse_architecture(AutoModelForCausalLM.from_config(config))
