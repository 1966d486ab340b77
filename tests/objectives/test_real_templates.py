"""The templates of well-known families, as TRL ships them: each answer is learned, and only answers are.

    pytest tests/objectives/test_real_templates.py

Most of these families rewrite earlier turns, and few mark what the model writes. TRL's training templates, which do,
say independently of us where the answers are.
"""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from chat_templates import byte_tokenizer

from pipeline_lib.objectives.dialogue import locate_turns
from pipeline_lib.objectives.messages import dialogue

trl = pytest.importorskip("trl")
FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = {file.stem: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.jinja"))}
IMAGES = ("idefics3", "llava_next", "smolvlm")
"""Read text only as parts of a content, beside images."""
NO_SYSTEM = ("gemma", "gemma_training")
ADDED = re.compile(r"</?\|?[\w|:]+\|?>|<｜[^｜]+｜>|\[\|?\w+\|?\]")
"""What looks like an added token in a template."""
CONVERSATION = [
    {"role": "user", "content": "Which number?"},
    {"role": "assistant", "content": "Forty two."},
    {"role": "user", "content": "And twice\nthat?"},
    {"role": "assistant", "content": "It is 84."},
    {"role": "user", "content": "Thanks 🙂"},
    {"role": "assistant", "content": "It is 84."},
]


def tokenizer_of(name):
    tokenizer = byte_tokenizer(TEMPLATES[name])
    tokenizer.add_tokens(sorted(set(ADDED.findall(TEMPLATES[name]))), special_tokens=True)
    return tokenizer


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("name", [name for name in TEMPLATES if not name.startswith(IMAGES)])
def test_every_answer_is_learned_and_nothing_else(name, system):
    if system and name in NO_SYSTEM:
        pytest.skip("the family has no system message")
    for count in (2, 4, 6):
        messages = [{"role": "system", "content": "Be brief."}] * system + CONVERSATION[:count]
        tokenizer = tokenizer_of(name)
        text, turns = locate_turns(tokenizer, dialogue(messages))
        assert text == tokenizer.apply_chat_template(messages, tokenize=False)
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        for turn, answer in zip(turns, answers, strict=True):
            learned = text[turn.start : turn.end]
            assert learned.count(answer) == 1
            around = re.sub(ADDED, "", learned.replace(answer, ""))
            assert re.fullmatch(r"(assistant|to=user|final|\s)*", around), learned
        rest = "".join(text[left.end : right.start] for left, right in pairwise(turns))
        assert not any(answer in text[: turns[0].start] + rest for answer in answers)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if not name.startswith((*IMAGES, "glm4moe"))])
def test_what_ends_an_answer_is_learned_with_it(name):
    text, turns = locate_turns(tokenizer_of(name), dialogue(CONVERSATION))
    for turn in turns:
        assert re.search(rf"(?:{ADDED.pattern})\s*$", text[turn.start : turn.end])


@pytest.mark.parametrize("name", [name for name in TEMPLATES if f"{name}_training" in TEMPLATES])
def test_the_answers_are_where_trls_training_template_marks_them(name):
    if name.startswith(IMAGES):
        pytest.skip("reads text only as parts of a content")
    from transformers.utils.chat_template_utils import render_jinja_template

    tokenizer, marked = tokenizer_of(name), TEMPLATES[f"{name}_training"]
    text, turns = locate_turns(tokenizer, dialogue(CONVERSATION))
    (rendered,), (spans,) = render_jinja_template(
        [CONVERSATION], None, chat_template=marked, return_assistant_tokens_mask=True, **tokenizer.special_tokens_map
    )
    if rendered != text:
        pytest.skip("TRL's template renders another text")
    for turn in turns:
        pieces = [span for span in spans if span[0] < turn.end and span[1] > turn.start]
        start, end = pieces[0][0], pieces[-1][1]
        assert re.fullmatch(rf"(?:{ADDED.pattern}|\s)*", text[slice(*sorted((turn.end, end)))])
        assert start <= turn.start <= turn.content
        assert re.fullmatch(rf"(?:{ADDED.pattern}|\w|\s)*", text[start : turn.start])
