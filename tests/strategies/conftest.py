"""Two-layer models of random weights by family, made on the spot, and a tokenizer for all of them."""

import pytest

WORDS = 40


@pytest.fixture
def make():
    """make(family): a model of fresh weights, always the same ones, without dropout."""
    return build


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    vocabulary = {word: index for index, word in enumerate([*special, *(f"w{i}" for i in range(4, WORDS))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def build(family):
    import torch
    import transformers as hf

    torch.manual_seed(0)
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    shape = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    inner = {"intermediate_size": 32, "max_position_embeddings": 48, "initializer_range": 0.3}
    gpt2 = {"vocab_size": WORDS, "n_positions": 48, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    t5 = {"vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    distilbert = {
        "vocab_size": WORDS,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 32,
        "initializer_range": 0.3,
    }
    start = {"decoder_start_token_id": 0, "dropout_rate": 0.0}
    models = {
        "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**shape, **inner, pad_token_id=0)),
        "distilbert": lambda: hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**distilbert)),
        "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**gpt2, **marks)),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**shape, **inner, **marks)),
        "t5": lambda: hf.T5ForConditionalGeneration(hf.T5Config(**t5, **marks, **start)),
        "t5_classifier": lambda: hf.T5ForSequenceClassification(hf.T5Config(**t5, **marks, **start)),
        "mpnet": lambda: hf.MPNetModel(hf.MPNetConfig(**shape, **inner)),
        "mobilebert": lambda: hf.MobileBertModel(hf.MobileBertConfig(**shape, **inner, intra_bottleneck_size=8)),
    }
    return models[family]().eval()
