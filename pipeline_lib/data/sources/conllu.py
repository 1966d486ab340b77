"""CoNLL-U files of Universal Dependencies: one word per line in ten columns, a blank line after each sentence."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw

NAMES = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORD = re.compile("[0-9]+")
SKIPPED = re.compile(r"[0-9]+-[0-9]+|[0-9]+\.[0-9]+")
"""Ids of multiword tokens (their words follow) and of empty nodes (not part of the text)."""
COMMENT = re.compile(r"#\s*(sent_id|text)\s*=\s*(.*)")


class Conllu(TextSource):
    """CoNLL-U files."""

    suffixes: ClassVar = (".conllu",)

    kind: Literal["conllu"]
    """CoNLL-U: rows have the lists id, form, lemma, upos, xpos, feats, head, deprel, deps and misc, and the texts
    sent_id and text. Multiword tokens and empty nodes are skipped. Select columns such as form and upos in
    `data.columns`."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield one row per sentence; `line` is the sentence's first line."""
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
    """Yield the row of a sentence, or nothing if it has only comments."""
    comments: dict[str, str | None] = {"sent_id": None, "text": None}
    words: list[list[str]] = []
    for number, line in enumerate(sentence, begin):
        if problem := flaw(line):
            yield Unusable(begin, f"line {number}: {problem}")
            return
        if line.startswith("#"):
            if match := COMMENT.match(line):
                comments[match[1]] = match[2].strip()
            continue
        fields = line.split("\t")
        if len(fields) != len(NAMES):
            yield Unusable(begin, f"line {number}: {len(fields)} columns, but CoNLL-U has {len(NAMES)}")
            return
        if SKIPPED.fullmatch(fields[0]):
            continue
        if not WORD.fullmatch(fields[0]):
            yield Unusable(begin, f"line {number}: {fields[0]!r} is not a valid word id")
            return
        words.append(fields)
    if words:
        columns = {name: list(column) for name, column in zip(NAMES, zip(*words))}
        yield Row(begin, {**columns, **comments})
