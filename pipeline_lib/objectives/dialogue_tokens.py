"""Dialogues to token ids that fit the model: which are learned, and which turns are left out of a long dialogue."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.objectives.base import limit_of
from pipeline_lib.objectives.dialogue import Dialogue, locate_turns, prompt
from pipeline_lib.objectives.messages import Message, exchange, tools_of
from pipeline_lib.objectives.tokens import token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Learns = Callable[[Sequence[Message], int], bool]
"""Whether a dialogue's answer with this index is learned."""
USUAL = 1024
"""Tokens of a dialogue where the recipe sets no limit."""


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
    def questions(self) -> list[int]:
        """Where a dialogue can begin without its oldest exchanges: the places of the later questions."""
        return [
            place for place, message in enumerate(self.messages) if message["role"] == "user" and place > self.first
        ]

    @property
    def first(self) -> int:
        """The place of the first message after the system prompt."""
        return next((place for place, message in enumerate(self.messages) if message["role"] not in _SYSTEM), 0)

    def drop_oldest(self, tokenizer: "PreTrainedTokenizerBase", count: int) -> "Rendered | None":
        """Without that many of the oldest exchanges; None where the template refuses what is left."""
        if count == 0:
            return self
        try:
            shorter = [*self.messages[: self.first], *self.messages[self.questions[count - 1] :]]
            return _render_messages(tokenizer, shorter, self.tools)
        except ValueError:
            return None


_SYSTEM = ("system", "developer")


def render_row(tokenizer: "PreTrainedTokenizerBase", row: Mapping[str, Any]) -> Rendered:
    """The dialogue of a row; raises ValueError where its text cannot be made, or not be told apart."""
    return _render_messages(tokenizer, row.get("messages") or exchange(row), tools_of(row.get("tools")))


def _render_messages(tokenizer: "PreTrainedTokenizerBase", messages: Any, tools: list[Any] | None) -> Rendered:
    messages = list(messages)
    answered = messages[-1]["role"] == "assistant"
    if answered:
        return Rendered(messages, tools, locate_turns(tokenizer, messages, tools), True)
    return Rendered(messages, tools, Dialogue(prompt(tokenizer, messages, tools), []), False)


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
        """Token ids, and whether each is learned. Leaves out the oldest turns, then the beginning of what is left."""
        return self.fit_together(tokenizer, [whole], [learns])[0]

    def fit_together(
        self, tokenizer: "PreTrainedTokenizerBase", wholes: Sequence[Rendered], learns: Sequence[Learns]
    ) -> list[tuple[list[int], list[bool]]]:
        """The same for several answers to one prompt, of which all lose the same part."""
        found = self._measure(tokenizer, wholes, learns, 0) or []
        if self._fits(found):
            return [(ids, learned) for ids, learned, _ in found]
        # by halves, as each try renders what is left of the dialogue
        too_few, enough = 0, 1 + min(len(whole.questions) for whole in wholes)
        fitting: list[_Measured] | None = None
        while enough - too_few > 1:
            dropped = (too_few + enough) // 2
            shorter = self._measure(tokenizer, wholes, learns, dropped)
            if shorter is None or self._fits(shorter):
                enough, fitting = dropped, shorter or fitting
            else:
                too_few, found = dropped, shorter
        if fitting:
            return [(ids, learned) for ids, learned, _ in fitting]
        answers = [min(len(ids) - asked, self.whole) for ids, _, asked in found]
        room = max(0, min(self.asked, self.whole - max(answers)))
        cut = []
        for (ids, learned, asked), answer in zip(found, answers, strict=True):
            places = slice(asked - min(asked, room), asked + answer)
            cut.append((ids[places], learned[places]))
        return cut

    def _fits(self, found: "Sequence[_Measured]") -> bool:
        return all(len(ids) <= self.whole and asked <= self.asked for ids, _, asked in found)

    def _measure(
        self, tokenizer: "PreTrainedTokenizerBase", wholes: Sequence[Rendered], learns: Sequence[Learns], dropped: int
    ) -> "list[_Measured] | None":
        """What `_ids` says of each dialogue without its oldest exchanges; None where the template refuses one."""
        shorter = [whole.drop_oldest(tokenizer, dropped) for whole in wholes]
        if None in shorter:
            return None
        kept = [whole for whole in shorter if whole]
        return [_ids(tokenizer, whole, these) for whole, these in zip(kept, learns, strict=True)]


_Measured = tuple[list[int], list[bool], int]


def _ids(tokenizer: "PreTrainedTokenizerBase", whole: Rendered, learns: Learns) -> _Measured:
    """Token ids of the whole text, whether each is learned, and how many stand before the last answer."""
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
    return ids, learned, asked


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
