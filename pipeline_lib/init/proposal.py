"""Propose objectives that fit a table, and the role of each column."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

from pipeline_lib.init.column import Column
from pipeline_lib.init.labels import label_options, may_be_label
from pipeline_lib.init.question import Answer, Request
from pipeline_lib.init.roles import NAMED, are_pair, is_group, normalize_name, plays
from pipeline_lib.init.table import FileTable

TAG_SHARE = 0.9
"""From this share of words such as O and B-place on a text is a row of tags."""
MOST_TAGS = 500
UNNAMED = re.compile("column[0-9]+")
"""Names of columns without a header."""
LEARNED = ("label", "tags", "answers", "tools")
"""Roles of columns beside which a text is not merely a text."""


@dataclass(frozen=True)
class Proposal:
    """An objective and its columns; `named` where the columns' names or unmistakable values say so."""

    objective: str
    columns: dict[str, str]
    named: bool
    options: dict[str, Any] = field(default_factory=dict)
    """Other fields of the objective."""
    unsure: tuple[str, ...] = ()

    @property
    def answer(self) -> Answer:
        """The proposal as an answer to choose."""
        named = ", ".join(f"{role} = {column}" for role, column in self.columns.items())
        return Answer(f"{self.objective} with {named}", self.objective, self.columns)


def proposals(table: FileTable, request: Request) -> list[Proposal]:
    """The proposals that fit best and agree with what the user said; none where nothing fits."""
    found = [proposal for proposal in _propose_all(table, request.objective) if _agrees(proposal, request)]
    if not found and request.objective and request.columns.keys():
        return [Proposal(request.objective, dict(request.columns), True)]
    if request.columns:  # of what agrees, what has no further columns than those asked for where there is such
        exact = [proposal for proposal in found if proposal.columns.keys() == request.columns.keys()]
        found = exact if len(exact) == 1 else found
    named = [proposal for proposal in found if proposal.named]
    return named or found


def _agrees(proposal: Proposal, request: Request) -> bool:
    if request.objective and proposal.objective != request.objective:
        return False
    return all(proposal.columns.get(role) == column for role, column in request.columns.items())


def _propose_all(table: FileTable, wanted: str | None) -> Iterator[Proposal]:
    columns = [column for column in table.columns.values() if column.present]
    if table.fields["kind"] == "text":
        yield Proposal("language_modeling", {"text": "text"}, True)
        return
    preferences = list(_preferences(columns))
    yield from preferences
    if preferences and wanted is None:
        return
    certain = [*_dialogues(columns), *_answers(columns), *_tags(table, columns)]
    yield from certain
    if any(proposal.named for proposal in certain) and wanted is None:
        return  # their values look like nothing else
    prose = [column for column in columns if column.has_prose]
    yield from _labels(columns, prose)
    yield from _instructions(columns)
    yield from _propose_seq2seq(columns, prose)
    others = [column for column in columns if column not in prose and not column.has_ids and not column.is_constant]
    others += [column for column in columns if any(plays(column, role) for role in LEARNED)]
    objects = [column.name for column in columns if column.kind == "object"]
    for column in prose:
        alone = len(prose) == 1 and not any(other is not column for other in others)
        alone = alone and (not objects or plays(column, "text"))  # beside a text, objects are often metadata
        if alone or wanted == "language_modeling":
            empty = [other.name for other in table.columns.values() if not other.present and plays(other, "label")]
            unsure = tuple(f"The column {name} has no values, so no label is learned." for name in empty)
            unsure += tuple(f"The objects in {name} are not read." for name in objects)
            yield Proposal("language_modeling", {"text": column.name}, alone, {}, unsure)


def _preferences(columns: list[Column]) -> Iterator[Proposal]:
    """A prompt with a chosen and a rejected answer, or with one answer that is called good or bad."""
    by_name = {normalize_name(column.name): column for column in columns if column.kind in ("text", "messages", "flag")}
    prompt = _find_first(list(by_name.values()), "prompt")
    roles = {"prompt": prompt.name} if prompt else {}
    if {"chosen", "rejected"} <= by_name.keys():
        roles |= {role: by_name[role].name for role in ("chosen", "rejected")}
        options = {"loss": "dpo"} if prompt else {"loss": "dpo", "whole_dialogues": True}
        hint = "To train on the chosen answers alone, give --objective causal_lm."
    elif prompt and {"completion", "label"} <= by_name.keys() and by_name["label"].kind == "flag":
        roles |= {role: by_name[role].name for role in ("completion", "label")}
        options = {"loss": "kto"}
        hint = "To train on all completions, good or bad, give --objective causal_lm."
    else:
        return
    yield Proposal("preference", {**roles, **_beside(columns)}, True, options, (hint,))


def _beside(columns: list[Column]) -> dict[str, str]:
    """The columns of tools and of system prompts."""
    return {role: column.name for role in ("tools", "system") for column in columns if plays(column, role)}


def _dialogues(columns: list[Column]) -> Iterator[Proposal]:
    beside = _beside(columns)
    for column in columns:
        if column.kind == "messages" or (column.kind == "texts" and plays(column, "messages")):
            yield Proposal("causal_lm", {"messages": column.name, **beside}, True)


def _answers(columns: list[Column]) -> Iterator[Proposal]:
    """Question, context, and answers with their places: the longer one of two texts is the context."""
    for column in columns:
        if column.kind != "answers":
            continue
        texts = [other for other in columns if other.kind == "text" and not other.has_ids]
        question = [other for other in texts if plays(other, "question")] or texts
        context = [other for other in texts if plays(other, "context")] or texts
        asked_column = min(question, key=_length, default=None)
        read = max(context, key=_length, default=None)
        if asked_column and read and asked_column is not read:
            roles = {"question": asked_column.name, "context": read.name, "answers": column.name}
            yield Proposal("question_answering", roles, True, {"unanswerable": _has_unanswered(column)})


def _length(column: Column) -> float:
    return sum(map(len, column.texts)) / len(column.sample)


def _has_unanswered(column: Column) -> bool:
    return column.missing > 0 or any(not len(answers["text"]) for answers in column.sample)


def _tags(table: FileTable, columns: list[Column]) -> Iterator[Proposal]:
    """Words and as many tags: lists of equal lengths, or texts of equally many words of which one spells tags."""
    for tokens, tags in permutations(columns, 2):
        if not table.are_aligned(tokens.name, tags.name) or _looks_like_tags(tokens) or not _has_words(tokens):
            continue
        roles = {"tokens": tokens.name, "tags": tags.name}
        lists = tokens.kind in ("words", "texts") and tags.kind in ("words", "numbers")
        named = plays(tokens, "tokens") and plays(tags, "tags")
        if _looks_like_tags(tags):
            alone = not _other_tags(columns, tags) and not any(plays(column, "tokens") for column in columns)
            yield Proposal("token_classification", roles, named or alone)
        elif tags.kind in ("words", "numbers") and lists and tags.is_counted and len(tags.values) <= MOST_TAGS:
            yield Proposal("token_classification", roles, named)


def _has_words(column: Column) -> bool:
    """Whether its items are words; the sentences of a text, with a number each, are not."""
    if column.kind == "texts":
        items = [item for value in column.sample for item in value]
        return sum(" " in item.strip() for item in items) < len(items) / 20
    return column.kind in ("words", "text")


def _other_tags(columns: list[Column], tags: Column) -> bool:
    return any(_looks_like_tags(column) for column in columns if column is not tags)


def _looks_like_tags(column: Column) -> bool:
    """Whether nearly all words are O, or begin with B-, I-, E-, S- or L-."""
    if column.kind not in ("text", "words"):
        return False
    words = [word for text in column.texts for word in text.split()]
    tags = sum(word == "O" or word[:2] in ("B-", "I-", "E-", "S-", "L-", "U-") for word in words)
    return bool(words) and tags >= TAG_SHARE * len(words) and any(word != "O" for word in words)


def _labels(columns: list[Column], prose: list[Column]) -> Iterator[Proposal]:
    """A text or a pair of texts, and a label."""
    for label in columns:
        named = plays(label, "label")
        unnamed_number = label.kind == "number" and UNNAMED.fullmatch(label.name)
        if not may_be_label(label, named or bool(unnamed_number)) or is_group(label):
            continue
        texts = [column for column in prose if column is not label]
        pairs = [pair for pair in combinations(texts, 2) if are_pair(*pair)]
        if not pairs and len(texts) == 2:
            roles = {"text": texts[0].name, "text_pair": texts[1].name, "label": label.name}
            yield _propose_classification(roles, label, False)
        for first, second in pairs:
            roles = {"text": first.name, "text_pair": second.name, "label": label.name}
            yield _propose_classification(roles, label, named and len(pairs) == 1)
        for text in texts:
            called = [column for column in texts if plays(column, "text")]
            only = len(texts) == 1 or (called == [text] and not pairs)
            yield _propose_classification({"text": text.name, "label": label.name}, label, named and only)


def _propose_classification(roles: dict[str, str], label: Column, named: bool) -> Proposal:
    options, unsure = label_options(label)
    return Proposal("text_classification", roles, named, options, unsure)


def _find_first(columns: list[Column], role: str) -> Column | None:
    """The column with the foremost name of a role."""
    names = NAMED[role]
    found = [column for column in columns if normalize_name(column.name) in names]
    return min(found, key=lambda column: names.index(normalize_name(column.name)), default=None)


def _instructions(columns: list[Column]) -> Iterator[Proposal]:
    """A prompt, what it is about, and an answer, by their names."""
    texts = [column for column in columns if column.kind == "text" and not column.is_constant]
    answer = _find_first(texts, "answer")
    prompt = _find_first(texts, "prompt") or _find_first(texts, "input")
    if not answer or not prompt or answer is prompt:
        return
    about = _find_first([column for column in texts if column not in (answer, prompt)], "input")
    roles = {"prompt": prompt.name, **({"input": about.name} if about else {}), "answer": answer.name}
    system = next((column.name for column in columns if plays(column, "system") and column.kind == "text"), None)
    roles |= {"system": system} if system else {}
    yield Proposal("causal_lm", roles, True)


def _propose_seq2seq(columns: list[Column], prose: list[Column]) -> Iterator[Proposal]:
    """A text and what is to be created of it: by their names, or any two texts, in both directions."""
    target = _find_first(prose, "target")
    others = [column for column in prose if column is not target]
    source = _find_first(others, "source") or (others[0] if len(others) == 1 else None)
    if target and source:
        yield Proposal("seq2seq", {"source": source.name, "target": target.name}, True)
    elif len(prose) == 2 and not any(column.has_labels for column in columns):
        for one, other in permutations(prose):
            yield Proposal("seq2seq", {"source": one.name, "target": other.name}, False)
