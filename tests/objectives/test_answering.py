"""Answers end where a turn ends, also where what ends it is several tokens."""

import pytest
import torch
from chat_templates import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline_lib.objectives import CausalLM
from pipeline_lib.objectives.answering import answers

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}\n{{ m.content }}###\n{% endfor %}"
    "{% if add_generation_prompt %}assistant\n{% endif %}"
)


def writer(tokenizer, text):
    """A model that writes the characters of a text one after another, and then the last one again and again."""
    size = len(tokenizer)
    shape = {"hidden_size": size + size % 2, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=size, pad_token_id=0, eos_token_id=2, **shape))
    ids = tokenizer.encode(text, add_special_tokens=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, shape["hidden_size"]))
        for token, following in zip(ids, [*ids[1:], ids[-1]], strict=True):
            model.lm_head.weight[following, token] = 1
    return model.eval()


@pytest.mark.parametrize(("configured", "tokens"), [(None, 5), ("k", 2), (["k", "z"], 2)])
@pytest.mark.parametrize("beams", [1, 2])
def test_an_answer_ends_where_the_template_or_the_model_ends_it(configured, tokens, beams):
    tokenizer, objective = byte_tokenizer(TEMPLATE), CausalLM(kind="causal_lm")
    model = writer(tokenizer, "\nok#")
    model.generation_config.stop_strings = configured
    prompts = objective.encode(tokenizer, [{"prompt": "hm"}, {"prompt": "what"}])["input_ids"]
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="right", return_tensors="pt")
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert answers(model, tokenizer, batch, 12, beams) == [("ok", tokens)] * 2
