"""Tiny models of random weights with a tokenizer that knows a few words, to be damaged."""

import os
from pathlib import Path

WORDS = ["a", "good", "bad", "day", "number", "which", "user", "assistant"] + [str(number) for number in range(30)]
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "eos_token": "[EOS]",
}
TEMPLATE = "{% for message in messages %}{{ message.role }} {{ message.content }} [EOS] {% endfor %}"


def make_model(folder: Path, family: str = "bert") -> Path:
    """Save a two-layer BERT or GPT-2 in a folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    os.environ["TQDM_DISABLE"] = "1"
    vocabulary = {word: index for index, word in enumerate([*SPECIAL.values(), *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if family == "bert":
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **SPECIAL)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    if family == "bert":
        shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
        model = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **shape))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocabulary), n_positions=32, n_embd=8, n_layer=2, n_head=2))
    model.save_pretrained(folder)
    return folder
