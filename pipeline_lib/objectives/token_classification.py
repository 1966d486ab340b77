"""Label each word of a sentence: names, parts of speech, slots."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from pipeline_lib.objectives.base import ObjectiveSection, limit_of
from pipeline_lib.objectives.values import name_of, parse_list, word_of

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.evaluation.metrics.spans import Scheme
    from pipeline_lib.evaluation.predictions import Metric, RowCounts
    from pipeline_lib.evaluation.row_errors import RowErrors

OUTSIDE = "O"
CONTINUED = -1


class TokenClassification(ObjectiveSection):
    """A head on the first token of every word (Devlin et al. 2019, section 5.3); other tokens of a word have no label.

    Spans are scored by the CoNLL rules (Tjong Kim Sang and De Meulder 2003): type and both ends must be correct. If
    tags do not mark spans, as with parts of speech, every tag is scored by itself. Words beyond the maximum length get
    the label O.
    """

    dedup_keys: ClassVar = ("tokens",)
    input_roles: ClassVar = {"tokens": True}
    per_token: ClassVar = True
    label_role: ClassVar = "tags"
    model_columns: ClassVar = ("input_ids", "words")

    kind: Literal["token_classification"]
    max_length: PositiveInt | None = None
    """Longer inputs are cut to this many tokens; empty: the model's own limit, at most 512."""

    spans: Literal["auto", "iob2", "iobes", "none"] = "auto"
    """How tags mark spans: B-, I- (iob2, also IOB1), or also E-, S- (iobes, also BILOU); none: every tag is scored by
    itself. auto: detect it from the prefixes of the tags; if there are none, each tagged token is a span."""

    @property
    def main_metric(self) -> str:  # type: ignore[override]
        """The metric that selects the best checkpoint unless the recipe names one."""
        return "token_accuracy" if self.spans == "none" else "span_f1"

    def scheme(self, labels: Sequence[str]) -> "Scheme":
        """Return how these tags mark spans."""
        from pipeline_lib.evaluation.metrics.spans import scheme_of

        return scheme_of(labels) if self.spans == "auto" else self.spans

    def notes(self, labels: Sequence[str]) -> list[str]:
        """Return how the tags were interpreted."""
        scheme = self.scheme(labels)
        how = "each tag is scored by itself (none)" if scheme == "none" else f"they mark spans ({scheme})"
        why = "by their prefixes" if self.spans == "auto" else "as objective.spans says"
        return [f"Tags are read {why}: {how}"]

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Words and their labels."""
        return {"tokens": columns.tokens, "tags": columns.tags}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return words and tags as lists of equal length; a word of only white space becomes an unknown token."""
        tokens, tags = (_words(role, row[role]) for role in ("tokens", "tags"))
        if not tokens:
            raise ValueError("tokens is not a list of words")
        if tags is None or len(tags) != len(tokens):
            cut = "tokens is not a list of words; split at white space: " if isinstance(row["tokens"], str) else ""
            raise ValueError(f"{cut}{len(tokens)} tokens, but a different number of tags")
        names = [name_of("tag", tag) for tag in tags]
        if not all(names):
            raise ValueError(f"word {names.index('') + 1} has no tag")
        return {"tokens": [word_of("token", token) for token in tokens], "tags": names}

    def clean_input(self, row: Mapping[str, Any], input_roles: Mapping[str, bool]) -> dict[str, Any]:
        """Return the words of a sentence to tag."""
        tokens = _words("tokens", row.get("tokens"))
        if not tokens:
            raise ValueError("tokens is not a list of words")
        return {"tokens": [word_of("token", token) for token in tokens]}

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Words, labels, token ids, and the word that a token begins."""
        import pyarrow as pa

        texts, numbers = pa.list_(pa.string()), pa.list_(pa.int32())
        return [("tokens", texts), ("tags", texts), ("input_ids", numbers), ("words", numbers)]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return token ids of the words joined by spaces; `words` has the word index of each first token of a word."""
        out = tokenizer(
            [" ".join(row["tokens"]) for row in rows],
            truncation=True,
            max_length=limit_of(tokenizer, self.max_length),
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        placed = zip(rows, out["offset_mapping"], out["special_tokens_mask"], strict=True)
        return {
            "input_ids": out["input_ids"],
            "words": [_first_tokens(row["tokens"], offsets, special) for row, offsets, special in placed],
        }

    def labels(self, column: "pyarrow.ChunkedArray") -> list[str]:
        """Label names by alphabet."""
        import pyarrow.compute as pc

        return sorted(pc.unique(pc.list_flatten(column)).to_pylist())

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """One input a sentence; targets by token."""
        import numpy as np

        from pipeline_lib.data.examples import IGNORED, Examples, Ragged

        words, place = Ragged.from_lists(rows["words"]), {name: index for index, name in enumerate(labels)}
        targets = np.where(words.values < 0, IGNORED, 0).astype(np.int32)
        for index, tags in enumerate(rows["tags"].to_pylist()):
            part, of = targets[words.offsets[index] : words.offsets[index + 1]], words[index]
            if tags is not None:
                part[of >= 0] = [place[tags[word]] for word in of[of >= 0]]
        return Examples(Ragged.from_lists(rows["input_ids"]), Ragged(targets, words.offsets), aligned=True)

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForTokenClassification with one output a label."""
        from transformers import AutoModelForTokenClassification

        from pipeline_lib.models.head_precision import compute_head_in_fp32
        from pipeline_lib.models.loading import load_pretrained

        model, head = load_pretrained(AutoModelForTokenClassification, base, labels, **config)
        compute_head_in_fp32(model)
        return model, head

    def collect(self, logits: "Tensor", targets: "Tensor") -> "list[numpy.ndarray]":
        """[words, labels] of each sentence."""
        return [row[used].float().cpu().numpy() for row, used in zip(logits, targets >= 0, strict=True)]

    def metrics(self) -> Mapping[str, "Metric"]:
        """Of spans, and of single words."""
        from pipeline_lib.evaluation.metrics.spans import SPANS, TAGS

        return TAGS if self.spans == "none" else SPANS

    def metric_inputs(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "RowCounts":
        """Spans by type, sentence by sentence."""
        from pipeline_lib.evaluation.metrics.spans import span_counts, types_of
        from pipeline_lib.evaluation.predictions import RowCounts

        gold, scheme = split.rows["tags"].to_pylist(), self.scheme(split.labels)
        return RowCounts(span_counts(gold, self._guesses(read, split), types_of(split.labels, scheme), scheme))

    def row_errors(self, outcome: "RowCounts") -> "RowErrors":
        """Spans that are missed or wrong."""
        from pipeline_lib.evaluation.row_errors import span_errors

        return span_errors(outcome)

    def per_class(self, outcome: "RowCounts", labels: Sequence[str]) -> list[dict[str, Any]]:
        """Precision, recall, F1 and support of each type of span, or of each tag where tags are no spans."""
        from pipeline_lib.evaluation.metrics.spans import per_type, types_of

        return per_type(outcome, types_of(labels, self.scheme(labels)))

    def predictions(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """`prediction`: a label for every word."""
        return {"prediction": self._guesses(read, split)}

    def _guesses(self, read: "Sequence[numpy.ndarray]", split: "SplitExamples") -> list[list[str]]:
        columns = zip(split.rows["tokens"].to_pylist(), split.rows["words"].to_pylist(), read, strict=True)
        guesses = []
        for tokens, words, logits in columns:
            guess = [OUTSIDE] * len(tokens)
            for word, best in zip((word for word in words if word >= 0), logits.argmax(-1), strict=True):
                guess[word] = split.labels[best]
            guesses.append(guess)
        return guesses


def _words(role: str, value: Any) -> list[Any] | None:
    """The items of a list, also of one that is spelled as text; any other text is cut at white space."""
    items = parse_list(role, value)
    return value.split() if items is None and isinstance(value, str) else items


def _first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]], special: Sequence[int]) -> list[int]:
    """Return for each token the index of the word that it begins, otherwise CONTINUED."""
    # the word of each character of the words joined by spaces; the + 1 is the space behind a word
    word_of_character: list[int] = []
    for index, word in enumerate(words):
        word_of_character += [index] * (len(word) + 1)
    firsts: list[int] = []
    last_word = -1
    for (begin, end), is_special in zip(offsets, special, strict=True):
        if is_special or end == begin:
            firsts.append(CONTINUED)
            continue
        # the token's last character decides: with some tokenizers the first one is the space before the word
        owner = word_of_character[end - 1]
        firsts.append(owner if owner > last_word else CONTINUED)
        last_word = max(last_word, owner)
    return firsts
