"""Dialogues that are longer than the model: the oldest exchanges are left out. `pytest tests/objectives`."""

import pytest
from chat_templates import TEMPLATES, byte_tokenizer

from pipeline_lib.objectives import dialogue_tokens
from pipeline_lib.objectives.dialogue_tokens import Fitting, render_row


def dialogue_of(exchanges, answered):
    """Each text names its exchange."""
    messages = [{"role": "system", "content": "s"}]
    for number in range(exchanges):
        messages += [{"role": "user", "content": f"q{number:04}"}, {"role": "assistant", "content": f"a{number:04}"}]
    return {"messages": messages if answered else [*messages, {"role": "user", "content": "last"}]}


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("limit", [60, 150, 151, 152, 400, 10_000])
def test_as_few_as_possible_of_the_oldest_exchanges_are_left_out(limit, answered):
    tokenizer = byte_tokenizer(TEMPLATES["chatml"])
    whole = render_row(tokenizer, dialogue_of(12, answered))
    learns = lambda messages, index: index == len(messages) - 1  # noqa: E731
    lengths = []
    for count in range(len(whole.questions) + 1):
        lengths.append(len(dialogue_tokens._ids(tokenizer, whole.drop_oldest(tokenizer, count), learns).ids))
    fitting = Fitting(limit, limit)
    fewest = next((count for count, length in enumerate(lengths) if length <= limit), None)
    ids, _ = fitting.fit(tokenizer, whole, learns)
    if fewest is None:
        assert len(ids) <= limit
    else:
        assert len(ids) == lengths[fewest]
        assert tokenizer.decode(ids) == whole.drop_oldest(tokenizer, fewest).dialogue.text


def test_a_dialogue_of_many_exchanges_is_rendered_a_few_times(monkeypatch):
    tokenizer = byte_tokenizer(TEMPLATES["chatml"])
    whole = render_row(tokenizer, dialogue_of(300, False))
    looks = []
    measure = dialogue_tokens._ids
    monkeypatch.setattr(dialogue_tokens, "_ids", lambda *parts: looks.append(1) or measure(*parts))
    Fitting(200, 200).fit(tokenizer, whole, lambda *_: False)
    assert len(looks) <= 10
