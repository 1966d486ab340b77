"""The recipe's section `data`: the source, its columns and what is set aside."""

from typing import Literal

from pipeline_lib.checks.levels import Checks
from pipeline_lib.data.sources import Source
from pipeline_lib.util.section import Section, Seed, Share


class Columns(Section):
    """Which column of the source plays which part."""

    text: str = "text"
    """The text to read (text_classification, language_modeling)."""
    text_pair: str | None = None
    """The second text, for pairs of texts as in entailment (text_classification)."""
    label: str = "label"
    """What is to be predicted (text_classification); whether the completion is desirable (preference with kto)."""
    tokens: str = "tokens"
    """The list of words (token_classification)."""
    tags: str = "tags"
    """The list of their labels (token_classification)."""
    question: str = "question"
    """The question (question_answering)."""
    context: str = "context"
    """The text that holds the answer (question_answering)."""
    answers: str = "answers"
    """The answers, with `text` and `answer_start` as in SQuAD (question_answering)."""
    source: str = "source"
    """The text to read (seq2seq)."""
    target: str = "target"
    """The text to write, or a list of texts that are all right (seq2seq)."""
    prompt: str = "prompt"
    """The instruction or question (causal_lm, preference)."""
    input: str | None = None
    """What the instruction is about, where that is a column of its own (causal_lm)."""
    answer: str = "answer"
    """The answer to learn (causal_lm)."""
    messages: str | None = None
    """Whole dialogues, as lists of `role` and `content` or of `from` and `value`, or as JSON (causal_lm); takes the
    place of prompt, input and answer."""
    chosen: str = "chosen"
    """The better answer (preference)."""
    rejected: str = "rejected"
    """The worse answer (preference)."""
    completion: str = "completion"
    """An answer that `label` calls desirable or not (preference with the loss kto)."""
    tools: str | None = None
    """The tools that a dialogue may call, as a list or as JSON (causal_lm, preference)."""


class SplitSettings(Section):
    """What is set aside from the training data where the source has no file for it.

    Rows are drawn by a hash of their text, so equal texts never part and new files leave old rows where they were.
    Every label keeps rows to train on, and labels of few rows give their share jointly.
    """

    validation: Share = 0.1
    """Share set aside to pick the best checkpoint; 0: no validation, the last checkpoint is kept."""
    test: Share = 0.1
    """Share set aside for the final evaluation, where the source names no test data."""
    by: str | None = None
    """Column whose equal values stay together, such as a document, a user or a thread."""
    if_empty: Literal["stop", "continue"] = "stop"
    """What happens where no row can be set aside for validation; continue: the last checkpoint is kept."""
    seed: Seed | None = None
    """Decides which rows are drawn; empty: the recipe's seed. Models of several seeds need the same test rows."""


class Data(Section):
    """What the model learns from."""

    source: Source
    """Where the rows come from."""
    columns: Columns = Columns()
    """Which column is what."""
    split: SplitSettings = SplitSettings()
    """What is set aside for validation and test."""
    max_unusable: Share = 0.01
    """The run stops when more than this share of a file's rows cannot be used."""
    checks: Checks = Checks()
    """What is looked for before training: `warn` tells, `error` stops the run, `ignore` does not look."""
