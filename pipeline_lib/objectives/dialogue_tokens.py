"""Dialogues to token ids that fit the model: which are learned, and which turns are left out of a long dialogue."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.objectives.base import limit_of
from pipeline_lib.objectives.dialogue import Dialogue, locate_turns, prompt
from pipeline_lib.objectives.messages import SYSTEM, Message, exchange, tools_of
from pipeline_lib.objectives.tokens import token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Learns = Callable[[Sequence[Message], int], bool]
"""Whether a dialogue's answer with this index is learned."""
USUAL = 1024
"""Tokens of a dialogue where the recipe sets no limit."""
LEAST_ASKED = 8
"""An answer leaves this fraction of the tokens, one eighth, to what it answers."""


class Rendered(NamedTuple):
    """A dialogue with its text; not `answered` where the last answer is yet to be given."""

    messages: list[Message]
    tools: list[Any] | None
    dialogue: Dialogue
    answered: bool

    @property
    def answer(self) -> str:
        """The text of the last turn."""
        turn = self.dialogue.turns[-1]
        return self.dialogue.text[turn.start : turn.end]

    @property
    def head(self) -> int:
        """Where the content of the first message behind the system prompt begins."""
        first = next((message for message in self.messages if message["role"] not in SYSTEM), {})
        return max(0, self.dialogue.text.find((first.get("content") or "").strip()))

    def drop_oldest(self, tokenizer: "PreTrainedTokenizerBase") -> "Rendered | None":
        """Without the oldest exchange after the system prompt; None where that is the last one."""
        first = next((place for place, message in enumerate(self.messages) if message["role"] not in SYSTEM), 0)
        users = [place for place, message in enumerate(self.messages) if message["role"] == "user" and place > first]
        if not users:
            return None
        shorter = [*self.messages[:first], *self.messages[users[0] :]]
        try:
            return _render_messages(tokenizer, shorter, self.tools)
        except ValueError:  # the template refuses what is left
            return None


def render_row(tokenizer: "PreTrainedTokenizerBase", row: Mapping[str, Any]) -> Rendered:
    """The dialogue of a row; raises ValueError where its text cannot be made, or not be told apart."""
    return _render_messages(tokenizer, row.get("messages") or exchange(row), tools_of(row.get("tools")))


def _render_messages(tokenizer: "PreTrainedTokenizerBase", messages: Any, tools: list[Any] | None) -> Rendered:
    messages = list(messages)
    answered = messages[-1]["role"] == "assistant"
    if answered:
        return Rendered(messages, tools, locate_turns(tokenizer, messages, tools), True)
    return Rendered(messages, tools, Dialogue(prompt(tokenizer, messages, tools), []), False)


class Encoded(NamedTuple):
    """The token ids of a dialogue and whether each is learned.

    `asked` of them stand before the last answer, and `head` before the content of the first message behind the system
    prompt.
    """

    ids: list[int]
    learned: list[bool]
    asked: int
    head: int

    def cut(self, room: int, whole: int) -> tuple[list[int], list[bool]]:
        """At most `room` tokens of what stands before the last answer, and `whole` in total.

        The beginning of the messages is left out, but not the head unless it takes more than half of the room.
        """
        room = min(room, self.asked)
        head = self.head if self.head <= room // 2 else 0
        places = [*range(head), *range(self.asked - room + head, min(len(self.ids), self.asked + whole - room))]
        return [self.ids[place] for place in places], [self.learned[place] for place in places]


class Fitting(NamedTuple):
    """How many tokens a dialogue may have, and how many of them up to its last answer."""

    whole: int
    asked: int

    @classmethod
    def from_limits(cls, tokenizer: "PreTrainedTokenizerBase", max_length: int | None, max_answer: int) -> "Fitting":
        """By the recipe and the model's positions, of which the answer to write gets its part."""
        whole = limit_of(tokenizer, max_length, USUAL)
        positions = tokenizer.model_max_length
        return cls(whole, max(1, min(whole, positions - min(max_answer, positions // 2))))

    def fit(
        self, tokenizer: "PreTrainedTokenizerBase", whole: Rendered, learns: Learns
    ) -> tuple[list[int], list[bool]]:
        """Token ids, and whether each is learned. Leaves out the oldest turns, then the beginning of what is left.

        Where the answer takes nearly all of the tokens, its end is left out too.
        """
        return self.fit_together(tokenizer, [whole], [learns])[0]

    def fit_together(
        self, tokenizer: "PreTrainedTokenizerBase", wholes: Sequence[Rendered], learns: Sequence[Learns]
    ) -> list[tuple[list[int], list[bool]]]:
        """The same for several answers to one prompt, of which all lose the same part."""
        shorter: list[Rendered | None] = [*wholes]
        while None not in shorter:
            wholes = [whole for whole in shorter if whole]
            found = [_ids(tokenizer, whole, these) for whole, these in zip(wholes, learns, strict=True)]
            if all(len(one.ids) <= self.whole and one.asked <= self.asked for one in found):
                return [(one.ids, one.learned) for one in found]
            shorter = [whole.drop_oldest(tokenizer) for whole in wholes]
        longest = max(len(one.ids) - one.asked for one in found)
        room = min(self.asked, max(self.whole - longest, self.whole // LEAST_ASKED))
        return [one.cut(room, self.whole) for one in found]


def _ids(tokenizer: "PreTrainedTokenizerBase", whole: Rendered, learns: Learns) -> Encoded:
    """The token ids of the whole text."""
    text, turns = whole.dialogue
    learned_turns = [turn for turn in turns if learns(whole.messages, turn.message)]
    ids, offsets = _encode_with_offsets(tokenizer, text, [place for turn in turns for place in (turn.start, turn.end)])
    learned = [False] * len(ids)
    for turn in learned_turns:
        for place, (start, end) in enumerate(offsets):
            if start < turn.end and max(end, start + 1) > turn.start:
                learned[place] = True
    last = turns[-1].start if whole.answered else len(text)
    asked = next((place for place, (start, end) in enumerate(offsets) if max(end, start + 1) > last), len(ids))
    begin = whole.head
    head = next((place for place, (_, end) in enumerate(offsets) if end > begin), len(ids))
    return Encoded(ids, learned, asked, min(head, asked))


def _encode_with_offsets(
    tokenizer: "PreTrainedTokenizerBase", text: str, cuts: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids and the characters of each; a tokenizer in Python knows none, so there the text is cut into parts."""
    inner: Any = getattr(tokenizer, "backend_tokenizer", None)
    if inner is not None:
        inner.no_padding()
        inner.no_truncation()
        found = inner.encode(text, add_special_tokens=False)
        return found.ids, found.offsets
    parts = list(pairwise(sorted({0, *cuts, len(text)})))
    ids, offsets = [], []
    found = token_ids(tokenizer, [text[start:end] for start, end in parts], special=False)[0]
    for (start, end), part in zip(parts, found, strict=True):
        ids += part
        offsets += [(start, end)] * len(part)
    return ids, offsets
