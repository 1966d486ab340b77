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
LEAST_PROMPT = 8
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
    def first(self) -> int:
        """The place of the first message after the system prompt."""
        return next((place for place, message in enumerate(self.messages) if message["role"] not in SYSTEM), 0)

    @property
    def head(self) -> int:
        """Where the content of the first message after the system prompt begins."""
        content = self.messages[self.first].get("content") or ""
        return max(0, self.dialogue.text.find(content.strip()))

    @property
    def questions(self) -> list[int]:
        """Where a dialogue can begin without its oldest exchanges: the places of the later questions."""
        return [
            place for place, message in enumerate(self.messages) if message["role"] == "user" and place > self.first
        ]

    def drop_oldest(self, tokenizer: "PreTrainedTokenizerBase", count: int) -> "Rendered | None":
        """Without that many of the oldest exchanges; None where the template refuses what is left."""
        if count == 0:
            return self
        try:
            shorter = [*self.messages[: self.first], *self.messages[self.questions[count - 1] :]]
            return _render_messages(tokenizer, shorter, self.tools)
        except ValueError:
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

    `prompt_tokens` of them stand before the last answer, and `head` before the content of the first message after the
    system prompt.
    """

    ids: list[int]
    learned: list[bool]
    prompt_tokens: int
    head: int

    def cut(self, room: int, whole: int) -> tuple[list[int], list[bool]]:
        """At most `room` tokens of what stands before the last answer, and `whole` in total.

        The beginning of the messages is left out, but not the head unless it takes more than half of the room.
        """
        room = min(room, self.prompt_tokens)
        head = self.head if self.head <= room // 2 else 0
        places = [
            *range(head),
            *range(self.prompt_tokens - room + head, min(len(self.ids), self.prompt_tokens + whole - room)),
        ]
        return [self.ids[place] for place in places], [self.learned[place] for place in places]


class Fitting(NamedTuple):
    """How many tokens a dialogue may have, and how many of them up to its last answer."""

    whole: int
    prompt: int

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
        found = self._encode(tokenizer, wholes, learns, 0) or []
        if self._fits(found):
            return [(one.ids, one.learned) for one in found]
        # by halves, as each try renders what is left of the dialogue
        too_few, enough = 0, 1 + min(len(whole.questions) for whole in wholes)
        fitting: list[Encoded] | None = None
        while enough - too_few > 1:
            dropped = (too_few + enough) // 2
            shorter = self._encode(tokenizer, wholes, learns, dropped)
            if shorter is None or self._fits(shorter):
                enough, fitting = dropped, shorter or fitting
            else:
                too_few, found = dropped, shorter
        if fitting:
            return [(one.ids, one.learned) for one in fitting]
        longest_answer = max(len(one.ids) - one.prompt_tokens for one in found)
        room = min(self.prompt, max(self.whole - longest_answer, self.whole // LEAST_PROMPT))
        return [one.cut(room, self.whole) for one in found]

    def _fits(self, found: "Sequence[Encoded]") -> bool:
        return all(len(one.ids) <= self.whole and one.prompt_tokens <= self.prompt for one in found)

    def _encode(
        self, tokenizer: "PreTrainedTokenizerBase", wholes: Sequence[Rendered], learns: Sequence[Learns], dropped: int
    ) -> "list[Encoded] | None":
        """The token ids of each dialogue without its oldest exchanges; None where the template refuses one."""
        found = []
        for whole, these in zip(wholes, learns, strict=True):
            shorter = whole.drop_oldest(tokenizer, dropped)
            if shorter is None:
                return None
            found.append(_ids(tokenizer, shorter, these))
        return found


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
    prompt_tokens = next((place for place, (start, end) in enumerate(offsets) if max(end, start + 1) > last), len(ids))
    begin = whole.head
    head = next((place for place, (_, end) in enumerate(offsets) if end > begin), len(ids))
    return Encoded(ids, learned, prompt_tokens, min(head, prompt_tokens))


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
