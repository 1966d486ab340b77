"""Find the answer to a question in a text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from pipeline_lib.objectives.base import ObjectiveSection, limit_of, text_of

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.dataset import Encoded, Split
    from pipeline_lib.evaluation.errors import Errors
    from pipeline_lib.evaluation.outcome import Metric, Sums
    from pipeline_lib.recipe import Columns

START, END = 1, 2
"""Bits of a token's target: the answer begins here, ends here."""
BEST = 20
"""Starts and ends that are tried with one another."""


class QuestionAnswering(ObjectiveSection):
    """Start and end of the answer, each a choice among the tokens (Devlin et al. 2019, sections 4.2 and 4.3):

    the span's score is start + end; no answer is the input's first token as both, and wins where
    its score exceeds the best span's. A long text is read in overlapping windows.
    """

    main_metric: ClassVar = "f1"
    same_if: ClassVar = ("context",)
    limits: ClassVar = ()
    by_token: ClassVar = True
    asked: ClassVar = {"question": True, "context": True}
    hidden: ClassVar = ("input_ids", "token_type_ids", "begins", "ends")

    kind: Literal["question_answering"]
    max_length: PositiveInt = 384
    """Tokens of a window, question included."""
    stride: NonNegativeInt = 128
    """Tokens that a window shares with the one before."""
    max_question: PositiveInt = 64
    """Longer questions are cut to this many tokens."""
    max_answer: PositiveInt = 30
    """Most tokens of an answer."""
    unanswerable: bool = True
    """Whether a question may have no answer in its text; false: the best span is always given."""

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Question, context, answers."""
        return {"question": columns.question, "context": columns.context, "answers": columns.answers}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Texts as strings; answers as two lists, empty where there is no answer."""
        answers = row["answers"] or {"text": [], "answer_start": []}
        if not isinstance(answers, Mapping) or not {"text", "answer_start"} <= answers.keys():
            raise ValueError("answers lack text and answer_start")
        texts, starts = [str(text) for text in answers["text"]], [int(start) for start in answers["answer_start"]]
        question, context = (text_of(role, row[role]) for role in ("question", "context"))
        for text, start in zip(texts, starts, strict=True):
            if not text or not context.startswith(text, start):
                raise ValueError(f"answer {text!r} does not stand at {start} of the context")
        if not texts and not self.unanswerable:
            raise ValueError("no answer, and objective.unanswerable is false")
        return {"question": question, "context": context, "answers": texts, "starts": starts}

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Texts, answers, and by window token ids and each token's characters in the context."""
        import pyarrow as pa

        text, windows = pa.string(), pa.list_(pa.list_(pa.int32()))
        return [
            *(("question", text), ("context", text), ("answers", pa.list_(text)), ("starts", pa.list_(pa.int32()))),
            *(("input_ids", windows), ("token_type_ids", pa.list_(pa.list_(pa.int8())))),
            *(("begins", windows), ("ends", windows)),
        ]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Windows over the context, each with the question; begins and ends are -1 for tokens of no context."""
        limit = limit_of(tokenizer, self.max_length)
        out = tokenizer(
            _shortened(tokenizer, [row["question"] for row in rows], min(self.max_question, limit // 2)),
            [row["context"] for row in rows],
            truncation="only_second",
            max_length=limit,
            stride=min(self.stride, limit // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
            verbose=False,
        )
        columns: dict[str, list[Any]] = {
            name: [[] for _ in rows] for name in ("input_ids", "token_type_ids", "begins", "ends")
        }
        for window, row in enumerate(out["overflow_to_sample_mapping"]):
            owner, offsets = out.sequence_ids(window), out["offset_mapping"][window]
            columns["input_ids"][row].append(out["input_ids"][window])
            if "token_type_ids" in out:
                columns["token_type_ids"][row].append(out["token_type_ids"][window])
            for name, side in (("begins", 0), ("ends", 1)):
                places = [place[side] if whose == 1 else -1 for place, whose in zip(offsets, owner, strict=True)]
                columns[name][row].append(places)
        return columns

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Encoded":
        """One input a window. A token that can be part of an answer, and the first one, has a target from 0 to 3."""
        import numpy as np

        from pipeline_lib.data.dataset import IGNORED, Encoded, Ragged

        ids, begins, ends = (Ragged.of(_windows(rows[name])) for name in ("input_ids", "begins", "ends"))
        segments = Ragged.of(_windows(rows["token_type_ids"]))
        owner = np.repeat(np.arange(len(rows)), rows["input_ids"].combine_chunks().value_lengths().to_numpy())
        targets = np.where(begins.values < 0, IGNORED, 0).astype(np.int32)
        answers, starts = rows["answers"].to_pylist(), rows["starts"].to_pylist()
        for window, row in enumerate(owner):
            first = targets[ids.offsets[window] :]
            first[0] = 0
            if answers[row] is not None:  # rows to be served have none to learn
                start, end = _answer_tokens(begins[window], ends[window], answers[row], starts[row])
                first[start] |= START
                first[end] |= END
        return Encoded(
            ids,
            Ragged(targets, ids.offsets),
            segments if len(segments) else None,
            aligned=True,
            rows=owner,
            losses=np.full(len(ids), 2),
        )

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForQuestionAnswering."""
        from transformers import AutoModelForQuestionAnswering

        from pipeline_lib.models.heads import pretrained

        return pretrained(AutoModelForQuestionAnswering, base, **config)

    def forward(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """[windows, length, 2]: start and end."""
        import torch

        out = model(**batch)
        return torch.stack([out.start_logits, out.end_logits], -1)

    def scored(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """A choice of the start and one of the end for each window, among the tokens that can be one."""
        import torch

        known = targets.clamp(min=0)
        choices = logits.float().masked_fill((targets < 0).unsqueeze(-1), -1e4)  # finite: 0 * inf is no number
        gold = [((known & bit) > 0).int().argmax(-1) for bit in (START, END)]
        return torch.cat([choices[..., 0], choices[..., 1]]), torch.cat(gold)

    def loss(self, logits: "Tensor", targets: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """Cross-entropy of both choices; what smoothing spreads goes to the tokens that can be chosen."""
        scores, gold = self.scored(logits, targets)
        chances, there = scores.log_softmax(-1), (targets >= 0).repeat(2, 1)
        right = chances.gather(-1, gold.unsqueeze(-1)).sum()
        spread = (chances * there).sum(-1) / there.sum(-1)
        return -(1 - smoothing) * right - smoothing * spread.sum()

    def read(self, logits: "Tensor", targets: "Tensor") -> "list[numpy.ndarray]":
        """[tokens that can be chosen, 2] of each window."""
        return [row[there].float().cpu().numpy() for row, there in zip(logits, targets >= 0, strict=True)]

    def metrics(self) -> Mapping[str, "Metric"]:
        """SQuAD's."""
        from pipeline_lib.evaluation.reading import READING

        return READING

    def outcome(self, read: "Sequence[numpy.ndarray]", split: "Split", texts: Sequence[str] | None = None) -> "Sums":
        """The answers compared with all gold answers, question by question."""
        from pipeline_lib.evaluation.outcome import Sums
        from pipeline_lib.evaluation.reading import answer_counts

        return Sums(answer_counts(split.rows["answers"].to_pylist(), self._spans(read, split)))

    def errors(self, outcome: "Sums") -> "Errors":
        """What the answers lack of the right ones' words."""
        from pipeline_lib.evaluation.errors import of_answers

        return of_answers(outcome)

    def answers(
        self, read: "Sequence[numpy.ndarray]", split: "Split", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """`prediction`: a part of the context, empty for no answer."""
        return {"prediction": self._spans(read, split)}

    def _spans(self, read: "Sequence[numpy.ndarray]", split: "Split") -> list[str]:
        """The best span of all windows of each row, or nothing where no answer scores higher in each of them."""
        from pipeline_lib.data.dataset import Ragged

        begins, ends = (Ragged.of(_windows(split.rows[name])) for name in ("begins", "ends"))
        contexts = split.rows["context"].to_pylist()
        best: list[tuple[float, str]] = [(float("-inf"), "")] * len(contexts)
        none = [float("inf")] * len(contexts)
        owners: Any = split.encoded.rows
        for window, (row, scores) in enumerate(zip(owners, read, strict=True)):
            none[row] = min(none[row], float(scores[0].sum()))
            there = begins[window] >= 0
            score, first, last = self._best_span(scores[1:] if not there[0] else scores)
            if score > best[row][0]:
                begin, end = begins[window][there][first], ends[window][there][last]
                best[row] = score, contexts[row][begin:end]
        return [
            "" if self.unanswerable and nothing >= score else text
            for (score, text), nothing in zip(best, none, strict=True)
        ]

    def _best_span(self, scores: "numpy.ndarray") -> tuple[float, int, int]:
        """Score and ends of the best span among the likeliest starts and ends: scores [tokens, 2]."""
        import numpy as np

        if not len(scores):
            return float("-inf"), 0, 0
        firsts, lasts = (np.argsort(-scores[:, side], kind="stable")[:BEST] for side in (0, 1))
        total = scores[firsts, 0][:, None] + scores[lasts, 1]
        length = lasts - firsts[:, None] + 1
        total = np.where((length > 0) & (length <= self.max_answer), total, -np.inf)
        first, last = np.unravel_index(total.argmax(), total.shape)
        return float(total[first, last]), int(firsts[first]), int(lasts[last])


def _windows(column: "pyarrow.ChunkedArray") -> "pyarrow.ChunkedArray":
    """The windows of all rows, one after the other."""
    import pyarrow as pa

    return pa.chunked_array([column.combine_chunks().flatten()])


def _answer_tokens(
    begins: "numpy.ndarray", ends: "numpy.ndarray", answers: Sequence[str], starts: Sequence[int]
) -> tuple[int, int]:
    """First and last token of the first answer in a window; the first token twice where it is not all in there."""
    import numpy as np

    inside = np.flatnonzero(begins >= 0)
    if not answers or not len(inside):
        return 0, 0
    start, end = starts[0], starts[0] + len(answers[0])
    if begins[inside[0]] > start or ends[inside[-1]] < end:
        return 0, 0
    first = np.searchsorted(ends[inside], start, side="right")
    last = np.searchsorted(begins[inside], end, side="left") - 1
    return int(inside[first]), int(inside[max(first, last)])


def _shortened(tokenizer: "PreTrainedTokenizerBase", questions: Sequence[str], limit: int) -> list[str]:
    out = tokenizer(
        list(questions), add_special_tokens=False, truncation=True, max_length=limit, return_offsets_mapping=True
    )
    return [
        question[: offsets[-1][1]] if offsets else question
        for question, offsets in zip(questions, out["offset_mapping"], strict=True)
    ]
