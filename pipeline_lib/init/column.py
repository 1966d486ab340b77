"""Statistics of a column: the type, lengths, repetitions and scripts of its values."""

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from pipeline_lib.objectives.values import is_bool, is_list, is_missing, is_number, name_of, parse_list, text_of

MOST_VALUES = 2_000
"""Different values that are counted; a column with more has no labels."""
SAMPLE = 500
"""Values of a column whose lengths and scripts are looked at."""
LONGEST_LABEL = 80
MOST_LABEL_WORDS = 6
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts whose words have no spaces between them, as `unicodedata` names them."""


@dataclass
class Column:
    """One column, filled row by row with `add`."""

    name: str
    rows: int = 0
    missing: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Rows by kind of value: text, whole, number, flag, texts, words, numbers, messages, answers, object."""
    values: Counter[str] = field(default_factory=Counter)
    """Rows by value, or by item of a list; complete only where `is_counted`."""
    sample: list[Any] = field(default_factory=list)

    def add(self, value: Any) -> None:
        """Count one row's value."""
        self.rows += 1
        value = _read(value)
        if is_missing(value) or value == "" or (isinstance(value, str) and not value.strip()):
            self.missing += 1
            return
        self.kinds[value_kind(value)] += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(value)
        for item in value if is_list(value) else [value]:
            if len(self.values) <= MOST_VALUES and not isinstance(item, Mapping):
                self.values[_name(item)[: LONGEST_LABEL + 1]] += 1

    @property
    def kind(self) -> str:
        """The kind of most of its values; whole numbers among others are numbers."""
        if not self.kinds:
            return "empty"
        if self.kinds.keys() == {"whole", "number"}:
            return "number"
        if self.kinds.keys() == {"words", "texts"}:
            return "texts"
        return self.kinds.most_common(1)[0][0]

    @property
    def is_counted(self) -> bool:
        """Whether `values` has all of them."""
        return len(self.values) <= MOST_VALUES

    @property
    def present(self) -> int:
        """Rows that have a value."""
        return self.rows - self.missing

    @property
    def texts(self) -> list[str]:
        """The sample as texts, those of lists joined."""
        return [" ".join(map(str, value)) if is_list(value) else str(value) for value in self.sample]

    @property
    def words(self) -> list[int]:
        """How many words the sample's texts have; where words have no spaces between them, characters."""
        if self.is_unspaced:
            return [len(text) for text in self.texts]
        return [len(text.split()) for text in self.texts]

    @property
    def script(self) -> str:
        """The script of most letters, such as LATIN or CJK; empty without letters."""
        shares = self.scripts
        return max(shares, key=shares.__getitem__, default="")

    @property
    def scripts(self) -> dict[str, float]:
        """The share of each script among the sample's letters."""
        letters = Counter(_script(letter) for text in self.texts[:200] for letter in text[:500] if letter.isalpha())
        total = sum(letters.values())
        return {name: count / total for name, count in letters.items()}

    @property
    def is_unspaced(self) -> bool:
        """Whether its script has no spaces between words."""
        return self.script in UNSPACED

    @property
    def has_labels(self) -> bool:
        """Whether it has few short values that occur in many rows."""
        if self.kind not in ("text", "whole", "flag") or not self.is_counted:
            return False
        if not 2 <= len(self.values) <= self.present / 2:
            return False
        longest = max(map(len, self.values))
        return longest <= LONGEST_LABEL and max(len(value.split()) for value in self.values) <= MOST_LABEL_WORDS

    @property
    def is_constant(self) -> bool:
        """Whether all rows have the same value."""
        return len(self.values) < 2

    @property
    def has_prose(self) -> bool:
        """Whether its values are texts to be read: of several words, or of several letters without spaces."""
        if self.kind not in ("text", "texts") or not self.sample:
            return False
        return not self.has_labels and not self.has_ids and median(self.words) >= 2

    @property
    def has_ids(self) -> bool:
        """Whether each row has a value of its own that is one word."""
        if self.kind == "whole":
            return self.is_counted and len(self.values) == self.present and self.present > 1
        if self.kind != "text" or self.is_unspaced:
            return False
        return all(len(text.split()) == 1 for text in self.texts) and not self.has_labels

    def describe(self) -> str:
        """Describe the column in one line."""
        parts = [KIND_NAMES.get(self.kind, self.kind)]
        if self.has_labels:
            least, most = min(self.values.values()), max(self.values.values())
            names = ", ".join(sorted(self.values)[:3]) + (", …" if len(self.values) > 3 else "")
            parts = [f"{len(self.values)} values ({names}), {least:,} to {most:,} rows each"]
        elif self.has_ids:
            parts = ["ids"]
        elif self.kind in ("text", "texts") and self.sample:
            unit = "characters" if self.is_unspaced else "words"
            parts.append(f"{min(self.words):,} to {max(self.words):,} {unit} (median {median(self.words):,.0f})")
        elif self.kind == "words" and self.is_counted:
            parts.append(f"{len(self.values):,} different words")
        elif self.kind in ("whole", "number"):
            parts.append(f"{min(self.numbers):g} to {max(self.numbers):g}")
        if (shown := self.scripts) and self.kind in ("text", "texts", "words") and not self.has_ids:
            shares = sorted(shown.items(), key=lambda item: -item[1])
            named = [f"{SCRIPT_NAMES.get(name, name.title())} {share:.0%}" for name, share in shares if share >= 0.01]
            parts.append(", ".join(named))
        if self.missing:
            parts.append(f"missing in {self.missing:,} rows")
        return ", ".join(parts)

    @property
    def numbers(self) -> list[float]:
        """The sample's values that are numbers."""
        return [float(value) for value in self.sample if value_kind(value) in ("whole", "number")]


KIND_NAMES = {
    "text": "text",
    "texts": "lists of texts",
    "words": "lists of words",
    "numbers": "lists of numbers",
    "whole": "whole numbers",
    "number": "numbers",
    "flag": "true or false",
    "messages": "dialogues",
    "answers": "answers with their places in the text",
    "object": "objects",
    "empty": "no values",
}
SCRIPT_NAMES = {"CJK": "Han"}


def value_kind(value: Any) -> str:
    """The kind of one value."""
    if isinstance(value, Mapping):
        return _kind_of_object(value)
    if is_list(value):
        return _kind_of_list(list(value))
    if is_bool(value) or (isinstance(value, str) and value.strip().lower() in ("true", "false")):
        return "flag"
    if is_number(value):
        return "whole" if float(value).is_integer() else "number"
    try:
        number = float(str(value))
    except ValueError:
        return "text"
    if not math.isfinite(number):
        return "text"
    return "whole" if number.is_integer() else "number"


def _kind_of_object(value: Mapping[str, Any]) -> str:
    if {"text", "answer_start"} <= value.keys():
        return "answers"
    if is_list(value.get("messages")) or is_list(value.get("conversations")):
        return "messages"
    return "object"


def _kind_of_list(items: list[Any]) -> str:
    if not items:
        return "words"
    if all(isinstance(item, Mapping) for item in items):
        turns = all({"role", "from"} & item.keys() for item in items)
        return "messages" if turns else "object"
    if all(isinstance(item, str) for item in items):
        return "texts" if any(" " in item.strip() for item in items) else "words"
    return "numbers" if all(is_number(item) or is_bool(item) for item in items) else "object"


def _name(item: Any) -> str:
    """An item as a label: numbers as `name_of` writes them, so that 1.0 in a typed file is 1."""
    return name_of("", item) if is_number(item) else str(item).strip()


def _read(value: Any) -> Any:
    """Lists and dialogues that are spelled as text as what they spell, and parts of a content as their text."""
    if _is_part(value) or (is_list(value) and len(value) and all(map(_is_part, value))):
        try:
            return text_of("", value)
        except ValueError:
            return value
    if isinstance(value, str) and value[:1] == "[":
        try:
            return found if (found := parse_list("", value)) is not None else value
        except ValueError:
            return value
    return value


def _is_part(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") == "text"


def _script(letter: str) -> str:
    return unicodedata.name(letter, "OTHER").split()[0]
