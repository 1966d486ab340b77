"""Extractive question answering: find the answer to a question in a text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from pipeline_lib.objectives.base import ObjectiveSection, limit_of
from pipeline_lib.objectives.values import is_list, is_number, text_of
from pipeline_lib.objectives.windows import answer_span, best_answers, truncate_texts, windows

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.evaluation.predictions import Metric, RowCounts
    from pipeline_lib.evaluation.row_errors import RowErrors

START, END = 1, 2
"""Bits of a token's target: the answer begins here, ends here."""


class QuestionAnswering(ObjectiveSection):
    """Predict the start and the end token of the answer (Devlin et al. 2019, sections 4.2 and 4.3).

    The score of a span is the sum of its start and end scores. "No answer" is the input's first token as both, and is
    predicted if its score exceeds that of the best span. A long text is read in overlapping windows.
    """

    main_metric: ClassVar = "f1"
    dedup_keys: ClassVar = ("context",)
    answers_role: ClassVar = "answers"
    limits: ClassVar = ()
    per_token: ClassVar = True
    input_roles: ClassVar = {"question": True, "context": True}
    model_columns: ClassVar = ("input_ids", "token_type_ids", "begins", "ends")

    kind: Literal["question_answering"]
    max_length: PositiveInt = 384
    """Number of tokens per window, including the question."""
    stride: NonNegativeInt = 128
    """Tokens that a window shares with the previous one."""
    max_question: PositiveInt = 64
    """Longer questions are cut to this many tokens."""
    max_answer: PositiveInt = 30
    """Maximum number of tokens of an answer."""
    unanswerable: bool = True
    """Whether a question may have no answer in its text; false: always predict the best span."""

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Question, context, answers."""
        return {"question": columns.question, "context": columns.context, "answers": columns.answers}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return texts, answers and their start positions; both lists are empty if there is no answer.

        Answers that are not at their `answer_start` come last, without a start: they are evaluated, not trained on.
        """
        answers = row["answers"] or {"text": [], "answer_start": []}
        if not isinstance(answers, Mapping) or not {"text", "answer_start"} <= answers.keys():
            raise ValueError("answers lack text and answer_start")
        texts, starts = answers["text"], answers["answer_start"]
        if not is_list(texts) or not is_list(starts):
            raise ValueError("answers need lists as text and answer_start")
        if len(texts) != len(starts) or not all(isinstance(text, str) for text in texts):
            raise ValueError("answers need a text and an answer_start each")
        if not all(is_number(start) and start == int(start) for start in starts):
            raise ValueError("an answer_start is not a whole number")
        question, context = text_of("question", row["question"]), text_of("context", row["context"])
        if not all(texts):
            raise ValueError("an answer is empty")
        if not len(texts) and not self.unanswerable:
            raise ValueError("no answer, but objective.unanswerable is false")
        placed, misplaced, begins = [], [], []
        for text, start in zip(texts, map(int, starts), strict=True):
            if context.startswith(text, start):
                placed.append(text)
                begins.append(start)
            else:
                misplaced.append(text)
        # `starts` may be shorter than `answers`: the misplaced ones at the end have none
        return {"question": question, "context": context, "answers": placed + misplaced, "starts": begins}

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
            truncate_texts(tokenizer, [row["question"] for row in rows], min(self.max_question, limit // 2)),
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
            # text 1 of the pair is the context; the question and the special tokens are not part of it
            in_context = [text == 1 for text in owner]
            begins = [begin if inside else -1 for (begin, _), inside in zip(offsets, in_context, strict=True)]
            ends = [end if inside else -1 for (_, end), inside in zip(offsets, in_context, strict=True)]
            columns["begins"][row].append(begins)
            columns["ends"][row].append(ends)
        return columns

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """One input a window. A token that can be part of an answer, and the first one, has a target from 0 to 3."""
        import numpy as np

        from pipeline_lib.data.examples import IGNORED, Examples, Ragged

        ids, begins, ends = (Ragged.from_lists(windows(rows[name])) for name in ("input_ids", "begins", "ends"))
        segments = Ragged.from_lists(windows(rows["token_type_ids"]))
        owner = np.repeat(np.arange(len(rows)), rows["input_ids"].combine_chunks().value_lengths().to_numpy())
        targets = np.where(begins.values < 0, IGNORED, 0).astype(np.int32)
        answers, starts = rows["answers"].to_pylist(), rows["starts"].to_pylist()
        learned = np.array([answers[row] is not None and bool(starts[row] or not answers[row]) for row in owner], bool)
        for window, row in enumerate(owner):
            first = targets[ids.offsets[window] :]
            first[0] = 0
            if learned[window]:  # rows to be served have no answers, and what is misplaced cannot be learned
                start, end = answer_span(begins[window], ends[window], answers[row], starts[row])
                first[start] |= START
                first[end] |= END
        return Examples(
            ids,
            Ragged(targets, ids.offsets),
            segments if len(segments) else None,
            aligned=True,
            rows=owner,
            losses=np.where(learned, 2, 0),
        )

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForQuestionAnswering."""
        from transformers import AutoModelForQuestionAnswering

        from pipeline_lib.models.head_precision import compute_head_in_fp32
        from pipeline_lib.models.loading import load_pretrained

        model, head = load_pretrained(AutoModelForQuestionAnswering, base, **config)
        compute_head_in_fp32(model)
        return model, head

    def forward(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """[windows, length, 2]: start and end."""
        import torch

        out = model(**batch)
        return torch.stack([out.start_logits, out.end_logits], -1)

    def flatten_targets(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """A choice of the start and one of the end for each window that has an answer to learn, among its tokens."""
        import torch

        learned = self._has_start(targets)
        logits, targets = logits[learned], targets[learned]
        known = targets.clamp(min=0)
        choices = logits.float().masked_fill((targets < 0).unsqueeze(-1), -1e4)  # finite: 0 * inf is not a number
        gold = [((known & bit) > 0).int().argmax(-1) for bit in (START, END)]
        return torch.cat([choices[..., 0], choices[..., 1]]), torch.cat(gold)

    @staticmethod
    def _has_start(targets: "Tensor") -> "Tensor":
        """[windows] whether a start is marked."""
        return ((targets.clamp(min=0) & START) > 0).any(-1)

    def loss_sum(self, logits: "Tensor", targets: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """Return the cross-entropy of start and end; label smoothing only covers tokens that can be chosen."""
        scores, gold = self.flatten_targets(logits, targets)
        chances, used = scores.log_softmax(-1), (targets[self._has_start(targets)] >= 0).repeat(2, 1)
        right = chances.gather(-1, gold.unsqueeze(-1)).sum()
        spread = (chances * used).sum(-1) / used.sum(-1)
        return -(1 - smoothing) * right - smoothing * spread.sum()

    def collect(self, logits: "Tensor", targets: "Tensor") -> "list[numpy.ndarray]":
        """[tokens that can be chosen, 2] of each window."""
        return [row[used].float().cpu().numpy() for row, used in zip(logits, targets >= 0, strict=True)]

    def metrics(self) -> Mapping[str, "Metric"]:
        """SQuAD's."""
        from pipeline_lib.evaluation.metrics.question_answering import READING

        return READING

    def metric_inputs(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "RowCounts":
        """The answers compared with all gold answers, question by question."""
        from pipeline_lib.evaluation.metrics.question_answering import answer_counts
        from pipeline_lib.evaluation.predictions import RowCounts

        return RowCounts(answer_counts(split.rows["answers"].to_pylist(), self._best_answers(read, split)))

    def row_errors(self, outcome: "RowCounts") -> "RowErrors":
        """What the answers lack of the right ones' words."""
        from pipeline_lib.evaluation.row_errors import answer_errors

        return answer_errors(outcome)

    def predictions(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """`prediction`: a part of the context, empty for no answer."""
        return {"prediction": self._best_answers(read, split)}

    def _best_answers(self, read: "Sequence[numpy.ndarray]", split: "SplitExamples") -> list[str]:
        return best_answers(read, split, self.max_answer, self.unanswerable)
