"""A chat template that does not end the last answer. `pytest tests/checks/test_answer_ends.py`."""

import pytest

from pipeline_lib.checks.answer_ends import find_missing_answer_end
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.objectives import CausalLM, TextClassification

TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
OPEN = TURNS + "{% if add_generation_prompt %}assistant:{% endif %}"


@pytest.mark.parametrize("template, count", [(OPEN, 1), (OPEN.replace("\n", "{{ eos_token }}"), 0), (None, 0)])
def test_an_answer_without_an_end(tiny, template, count):
    tokenizer = load_tokenizer(tiny["llama"])
    tokenizer.chat_template = template
    found = list(find_missing_answer_end(CausalLM(kind="causal_lm"), tokenizer, 5))
    assert [(finding.name, finding.of) for finding in found] == [("answer_ends", 5)] * count
    assert not list(find_missing_answer_end(TextClassification(kind="text_classification"), tokenizer, 5))
