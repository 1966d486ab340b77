"""Chat templates that lose what should be learned. `pytest tests/checks/test_chat_template.py`."""

import pyarrow as pa
import pytest

from pipeline_lib.checks.chat_template import find_template_faults
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.objectives import CausalLM, TextClassification

TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
UNENDED = TURNS + "{% if add_generation_prompt %}assistant:{% endif %}"
ENDED = UNENDED.replace("\n", "{{ eos_token }}")
# as Mistral v0.3: the system prompt stands before a last message of the user
ONLY_LAST = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if loop.last and system and m.role == 'user' %}{{ system }} {% endif %}"
    "{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
DIALOGUE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is the door open?"},
    {"role": "assistant", "content": "It is."},
]


@pytest.mark.parametrize(
    ("template", "problems"),
    [
        (UNENDED, ["puts nothing after the last answer"]),
        (ENDED, []),
        (ONLY_LAST, ["leaves out the system prompt in 2 of 3 dialogues"]),
        (None, []),
    ],
)
def test_faults_of_a_template_are_found(tiny, template, problems):
    tokenizer = load_tokenizer(tiny["llama"])
    tokenizer.chat_template = template
    rows = pa.table({"messages": [DIALOGUE, DIALOGUE, DIALOGUE[1:]]})
    found = list(find_template_faults(CausalLM(kind="causal_lm"), tokenizer, rows))
    assert len(found) == len(problems)
    for finding, problem in zip(found, problems, strict=True):
        assert problem in finding.problem
    assert not list(find_template_faults(TextClassification(kind="text_classification"), tokenizer, rows))
