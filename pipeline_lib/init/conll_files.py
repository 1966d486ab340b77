"""Detect files of words and their tags: CoNLL columns and CoNLL-U."""

import re
from collections import Counter
from collections.abc import Sequence

from pipeline_lib.data.sources.conllu import NAMES, SKIPPED, WORD
from pipeline_lib.init.delimited import Fields
from pipeline_lib.init.no_data import NoData

MOST_TAGS = 0.2
"""Most different last words, as a share of the lines, of a file of words with their tags."""
MOST = 0.95
"""Share of the lines that have the form of the file."""


def has_tag_columns(lines: Sequence[str]) -> bool:
    """Whether lines are words with their tags: in blocks of several lines, with few different last words."""
    words = [_cells(line)[-1] for line in lines if line.strip()]
    blocks = sum(1 for line in lines if not line.strip())
    few = len(set(words)) <= max(MOST_TAGS * len(words), 3)
    return is_conllu(lines) or (0 < blocks < 0.8 * len(words) and few and _width(_rows(lines)) > 1)


def is_conllu(lines: Sequence[str]) -> bool:
    """Whether lines have the ten columns of CoNLL-U, the first of which counts the words."""
    words = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    fit = [cells for cells in words if len(cells) == len(NAMES) and (_is_id(cells[0]))]
    return len(fit) > MOST * len(words)


def _is_id(cell: str) -> bool:
    return bool(WORD.fullmatch(cell) or SKIPPED.fullmatch(cell))


def conll_fields(lines: Sequence[str]) -> Fields:
    """Tokens in the first column, or in the second after their numbers; tags in the last one."""
    if is_conllu(lines):
        return {"kind": "conllu"}
    rows, fields = _rows(lines), Fields(kind="conll")
    if not _width(rows):  # tokens with spaces in them
        rows, fields["delimiter"] = _rows(lines, "\t"), "\t"
    width = _width(rows)
    if width < 2:
        raise NoData("has no columns of tokens and tags")
    _refuse_wide_comments(lines, width)
    numbered = width > 2 and all(row[0].isdigit() for row in rows)
    names = [f"column{number}" for number in range(1, width + 1)]
    names[1 if numbered else 0], names[-1] = "tokens", "tags"
    return fields if names == ["tokens", "tags"] else {**fields, "names": names}


def are_sentences(lines: Sequence[str]) -> bool:
    """Whether each line is a sentence, a tab, and a tag for each of its words, as in the ATIS corpus."""
    counts = [[len(_cells(cell)) for cell in line.split("\t")] for line in lines]
    several = sum(max(count) > 1 for count in counts)
    return several > len(counts) / 2 and all(len(count) == 2 and count[0] == count[1] for count in counts)


def _refuse_wide_comments(lines: Sequence[str], width: int) -> None:
    """Raise NoData if each sentence begins with a comment that has as many columns as the words: it would be one."""
    firsts = [line for before, line in zip(["", *lines], lines) if line.strip() and not before.strip()]
    if width > 2 and len(firsts) > 1 and all(line.startswith("# ") and len(_cells(line)) == width for line in firsts):
        raise NoData(f"has comments with as many columns as the words ({firsts[0][:40]!r}): remove them")


def _rows(lines: Sequence[str], delimiter: str | None = None) -> list[list[str]]:
    """The cells of all lines that are not blank, without the comments."""
    words = [line for line in lines if line.strip() and not line.startswith("-DOCSTART-")]
    if any(not line.startswith("#") for line in words):
        words = [line for line in words if not line.startswith("# ") or len(_cells(line)) == 2]
    return [line.split(delimiter) if delimiter else _cells(line) for line in words]


def _width(rows: Sequence[Sequence[str]]) -> int:
    """How many columns nearly all rows have; 0 where they differ."""
    widths = Counter(map(len, rows)).most_common(1)
    return widths[0][0] if widths and widths[0][1] >= MOST * len(rows) else 0


def _cells(line: str) -> list[str]:
    return re.split(r"[ \t]+", line.strip(" \t"))
