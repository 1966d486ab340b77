"""Chat templates that never end, or that fill the memory. `pytest tests/objectives`."""

import time

import pytest
from chat_templates import byte_tokenizer

from pipeline_lib.objectives.template_text import render
from pipeline_lib.util import trial

MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
ENDLESS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a number of many digits": "{{ (9 ** 99999999) % 7 }}",
    "a text that doubles": "{% set n = namespace(x='a') %}{% for i in range(40) %}{% set n.x = n.x * 2 %}{% endfor %}",
    "a wide format": "{{ '%9999999999d' % 1 }}",
    "a repeated text": "{{ 'a' * 9999999999 }}",
}


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_endless_template_is_refused_in_time_for_every_row(template, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 1)
    monkeypatch.setattr(trial, "BYTES", 2**28)
    tokenizer = byte_tokenizer(template)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(ValueError, match="takes more than"):
            render(tokenizer, MESSAGES, None)
    assert time.monotonic() - began < 60  # one try, of a second of processor time


def test_a_long_text_of_a_short_dialogue_is_refused():
    with pytest.raises(ValueError, match="a text of millions of characters"):
        render(byte_tokenizer("{{ 'ab' * 1000000 }}"), MESSAGES, None)


def test_a_template_that_makes_a_long_text_of_a_later_dialogue_is_refused():
    tokenizer = byte_tokenizer("{{ messages[0].content * (1 if messages[0].content == 'a' else 1000000) }}")
    assert render(tokenizer, MESSAGES, None) == "a"
    with pytest.raises(ValueError, match="makes 2,000,000 characters of a short dialogue"):
        render(tokenizer, [{"role": "user", "content": "bc"}], None)


def test_a_long_dialogue_is_read():
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    long = [{"role": "user", "content": "a" * 2_000_000}]
    assert len(render(byte_tokenizer(template), long, None)) == 2_000_000


def test_a_templates_own_error_is_left_to_the_caller():
    with pytest.raises(ValueError, match=r"refuses the dialogue \(no\)"):
        render(byte_tokenizer("{{ raise_exception('no') }}"), MESSAGES, None)
