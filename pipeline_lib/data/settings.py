"""Settings of the recipe section `data`: the source, its columns, the split and the checks."""

from typing import Literal

from pipeline_lib.checks.levels import Checks
from pipeline_lib.data.sources import Source
from pipeline_lib.util.section import Section, Seed, Share


class Columns(Section):
    """Column names of the source, by the role each column plays. In `data.text`, `text` is a key of the objects in the
    column `data`."""

    text: str = "text"
    """Input text (text_classification, language_modeling)."""
    text_pair: str | None = None
    """Second text, for text-pair tasks such as entailment (text_classification)."""
    label: str = "label"
    """Label to predict (text_classification); whether the completion is desirable (preference with the loss kto)."""
    tokens: str = "tokens"
    """List of words (token_classification)."""
    tags: str = "tags"
    """List of labels, one per word (token_classification)."""
    question: str = "question"
    """Question (question_answering)."""
    context: str = "context"
    """Text that contains the answer (question_answering)."""
    answers: str = "answers"
    """Answers, with `text` and `answer_start` as in SQuAD (question_answering)."""
    source: str = "source"
    """Input text (seq2seq)."""
    target: str = "target"
    """Target text, or a list of equally correct target texts (seq2seq)."""
    prompt: str = "prompt"
    """Instruction or question (causal_lm, preference)."""
    input: str | None = None
    """Additional input for the instruction, if it is in a separate column (causal_lm)."""
    answer: str = "answer"
    """Answer to learn (causal_lm)."""
    messages: str | None = None
    """Complete dialogues: lists of objects with `role` and `content`, or with `from` and `value`, or the same as JSON
    (causal_lm). Replaces prompt, input and answer."""
    system: str | None = None
    """System prompt, if it is in a separate column (causal_lm, preference). Rows without one, and dialogues that begin
    with one of their own, get none."""
    chosen: str = "chosen"
    """Preferred answer (preference)."""
    rejected: str = "rejected"
    """Rejected answer (preference)."""
    completion: str = "completion"
    """Answer that `label` marks as desirable or undesirable (preference with the loss kto)."""
    tools: str | None = None
    """Tools that a dialogue may call, as a list or as JSON (causal_lm, preference)."""


class SplitSettings(Section):
    """How validation and test rows are set aside from the training data if the source has no files for them.

    Rows are assigned by a hash of their text, so identical texts always land in the same split, and adding files does
    not move existing rows. Every label keeps at least one group of rows for training; labels with too few rows are
    pooled.
    """

    validation: Share = 0.1
    """Share of rows used to select the best checkpoint; 0: no validation, the last checkpoint is kept."""
    test: Share = 0.1
    """Share of rows used for the final evaluation if the source names no test data."""
    by: str | None = None
    """Group column: rows with the same value, such as a document, user or thread, stay in the same split."""
    if_empty: Literal["stop", "continue"] = "stop"
    """What to do if no rows can be set aside for validation; continue: train anyway and keep the last checkpoint."""
    seed: Seed | None = None
    """Seed for the split; empty: the recipe's seed. Set it to compare several training seeds on the same test rows."""


class Data(Section):
    """Training data and how it is split and checked."""

    source: Source
    """Data source."""
    columns: Columns = Columns()
    """Column names by role."""
    split: SplitSettings = SplitSettings()
    """Validation and test rows to set aside."""
    max_unusable: Share = 0.01
    """Largest share of unusable rows allowed in a file; above it the run stops."""
    checks: Checks = Checks()
    """Checks of the data before training: each can `warn`, `error` (stop the run) or be skipped (`ignore`)."""
