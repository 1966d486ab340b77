"""CoNLL-U, the format of Universal Dependencies: one word a line in ten columns, a blank line after each sentence."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw

NAMES = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORD = re.compile("[0-9]+")
SKIPPED = re.compile(r"[0-9]+-[0-9]+|[0-9]+\.[0-9]+")
"""Ids of multiword tokens, whose words follow, and of empty nodes, which stand in no text."""
COMMENT = re.compile(r"#\s*(sent_id|text)\s*=\s*(.*)")


class Conllu(TextSource):
    """CoNLL-U."""

    suffixes: ClassVar = (".conllu",)

    kind: Literal["conllu"]
    """CoNLL-U: the columns id, form, lemma, upos, xpos, feats, head, deprel, deps and misc as lists, and sent_id and
    text; multiword tokens and empty nodes are passed over. Name them in `data.columns`, such as form and upos."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """One row a sentence; `line` is that of its first line."""
        sentence: list[str] = []
        begin = 1
        for number, line in enumerate(self.lines(file), 1):
            if line.strip():
                begin = begin if sentence else number
                sentence.append(line.rstrip("\r\n"))
                continue
            yield from _rows(begin, sentence)
            sentence = []
        yield from _rows(begin, sentence)


def _rows(begin: int, sentence: list[str]) -> Iterator[Row | Unusable]:
    """The row of a sentence; none where there are comments alone."""
    comments: dict[str, str | None] = {"sent_id": None, "text": None}
    words: list[list[str]] = []
    for number, line in enumerate(sentence, begin):
        if problem := flaw(line):
            yield Unusable(begin, f"line {number}: {problem}")
            return
        if line.startswith("#"):
            if found := COMMENT.match(line):
                comments[found[1]] = found[2].strip()
            continue
        fields = line.split("\t")
        if len(fields) != len(NAMES):
            yield Unusable(begin, f"line {number}: {len(fields)} columns where CoNLL-U has {len(NAMES)}")
            return
        if SKIPPED.fullmatch(fields[0]):
            continue
        if not WORD.fullmatch(fields[0]):
            yield Unusable(begin, f"line {number}: {fields[0]!r} is not an id of a word")
            return
        words.append(fields)
    if words:
        columns = {name: list(column) for name, column in zip(NAMES, zip(*words))}
        yield Row(begin, {**columns, **comments})
