"""The recipe's section `data.checks`: what each check does with its findings."""

from typing import Literal

from pipeline_lib.util.section import Section

Level = Literal["ignore", "warn", "error"]
"""Skip the check; log a warning; stop the run before training."""


class Checks(Section):
    """Checks before training: each can `warn`, `error` (stop the run) or be skipped (`ignore`)."""

    duplicates: Level = "warn"
    """Validation rows that are also in training, or test rows in either, ignoring case and white space."""
    near_duplicates: Level = "warn"
    """The same for near duplicates: texts that share 80 % of their four-character substrings."""
    repeats: Level = "warn"
    """Training rows that repeat an earlier one, if they are 5 % or more."""
    truncated: Level = "warn"
    """Rows that are truncated because they are too long, if they are 1 % of a split or more."""
    chat_template: Level = "warn"
    """A chat template that puts nothing after the last answer, or that leaves out system prompts or questions."""
    balance: Level = "warn"
    """Labels with fewer than 10 training rows, or one label with 90 % or more of the training rows."""
    missing_labels: Level = "warn"
    """Labels without any validation row, or without any test row."""
    unseen_labels: Level = "warn"
    """Labels that occur in a given validation or test file only, so that the model cannot learn them."""
    numeric_labels: Level = "warn"
    """Labels that are decimal fractions, for which regression may be the better choice."""
    misplaced_answers: Level = "warn"
    """Answers that are not at their answer_start: such rows are evaluated, but not trained on."""
    model: Level = "warn"
    """Trainable parameters without a gradient, frozen ones with a gradient, or a problem with a new head."""
