"""How seriously a recipe takes what the checks find."""

from typing import Literal

from pipeline_lib.util.section import Section

Level = Literal["ignore", "warn", "error"]
"""Not looked for; told; the run stops before training."""


class Checks(Section):
    """What is looked for before training, and what happens where it is found."""

    duplicates: Level = "warn"
    """Validation rows that stand in the training rows too, test rows that stand in either, but for case and spaces."""
    near_duplicates: Level = "warn"
    """Rows that nearly stand in one of those: of all runs of four characters both have four fifths."""
    repeats: Level = "warn"
    """Training rows that repeat another one, where that is 5 % of them or more."""
    truncated: Level = "warn"
    """Rows that are cut because they are too long, where that is 1 % of a split or more."""
    balance: Level = "warn"
    """Labels with fewer than ten training rows, or one label that nine in ten training rows have."""
    missing_labels: Level = "warn"
    """Labels that no validation row, or no test row, has."""
    unseen_labels: Level = "warn"
    """Labels that stand in a given validation or test file alone: no training row teaches them."""
    numeric_labels: Level = "warn"
    """Labels that are decimal fractions, where regression would learn them as numbers."""
    misplaced_answers: Level = "warn"
    """Answers that do not stand at their answer_start: such rows are tested, but not trained on."""
    model: Level = "warn"
    """A parameter that is to be trained and gets no gradient, or the other way round; a head that is not new."""
