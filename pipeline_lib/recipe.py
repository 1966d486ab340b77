"""The recipe: one schema for the YAML file, the command line's overrides and the form in Prefect's UI."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline_lib import regularizers as regularizer_rules
from pipeline_lib import strategies as strategy_rules
from pipeline_lib.checks.levels import Checks
from pipeline_lib.confine import refuse_outside
from pipeline_lib.data.sources import Source
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.slices import ByColumn, Slice
from pipeline_lib.execution import Execution
from pipeline_lib.mistakes import explain
from pipeline_lib.objectives import Objective
from pipeline_lib.regularizers import Regularizer
from pipeline_lib.schema import Reach, Section, is_folder
from pipeline_lib.strategies import Full, Strategy

Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Columns(Section):
    """Which column of the source plays which part."""

    text: str = "text"
    """The text to read (text_classification, language_modeling)."""
    text_pair: str | None = None
    """The second text, for pairs of texts as in entailment (text_classification)."""
    label: str = "label"
    """What is to be predicted (text_classification)."""
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
    """The instruction or question (causal_lm)."""
    input: str | None = None
    """What the instruction is about, where that is a column of its own (causal_lm)."""
    answer: str = "answer"
    """The answer to learn (causal_lm)."""
    messages: str | None = None
    """Whole dialogues, as lists of `role` and `content` or of `from` and `value`, or as JSON (causal_lm); takes the
    place of prompt, input and answer."""
    tools: str | None = None
    """The tools that a dialogue may call, as a list or as JSON (causal_lm)."""


class Split(Section):
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
    split: Split = Split()
    """What is set aside for validation and test."""
    max_unusable: Share = 0.01
    """The run stops when more than this share of a file's rows cannot be used."""
    checks: Checks = Checks()
    """What is looked for before training: `warn` tells, `error` stops the run, `ignore` does not look."""


class Model(Section):
    """The pre-trained model to start from."""

    base: Annotated[str, Field(min_length=1), Reach.BASE]
    """A folder, a hub id such as `org/name`, or `package:NAME/folder` for a model inside a Python package."""
    revision: str | None = None
    """Commit of the hub's repository; pin it to get the same bytes tomorrow."""

    @field_validator("base")
    @classmethod
    def _beside_the_recipe(cls, base: str, info: ValidationInfo) -> str:
        beside = Path((info.context or {}).get("folder", "")) / base
        return str(beside) if is_folder(beside) or base.startswith(".") else base


class Training(Section):
    """How the model is trained."""

    epochs: PositiveInt = 3
    """Passes over the training data."""
    learning_rate: PositiveFloat = 5e-5
    """The peak rate of AdamW; strategies scale it per parameter."""
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    """How the rate moves after the warm-up."""
    warmup: Share = 0.06
    """Share of all steps in which the rate rises from zero."""
    batch_size: PositiveInt = 16
    """Rows per optimizer step, give or take one; the rows of a step are of like length."""
    batch_tokens: PositiveInt = 4096
    """Most tokens, padding included, that go through the model at once; a larger step is accumulated."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""


class Evaluation(Section):
    """How the result is measured."""

    metrics: tuple[str, ...] = ()
    """Metrics to report; empty: all that the objective knows."""
    intervals: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the bootstrap intervals."""
    baselines: tuple[Literal["untrained", "majority", "bag_of_words", "copy"], ...] = ()
    """What to compare with: the model before training, and simple predictors; copy: seq2seq's source as it is."""
    slices: tuple[Slice, ...] = ()
    """Parts of the test rows that are scored by themselves too; to change them trains nothing anew."""

    @property
    def columns(self) -> dict[str, str]:
        """Field -> the source's column that it names, for slices."""
        named = ((index, each.column) for index, each in enumerate(self.slices) if isinstance(each, ByColumn))
        return {f"evaluation.slices.{index}.column": column for index, column in named}


class Given(NamedTuple):
    """A recipe as somebody gave it: a file with its text, and what was changed on the way."""

    file: str
    text: str
    overrides: tuple[str, ...]


class Recipe(Section):
    """One fine-tuning run from data to scores. Everything but `execution` decides the result."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.-]*$", max_length=100)]
    """Name of the run, as Prefect and MLflow show it; letters, digits, dots, dashes and underscores."""
    data: Data
    model: Model
    objective: Objective
    """What is learned."""
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = (Full(kind="full"),)
    """What is trained, and how fast; applied in order."""
    regularizers: tuple[Regularizer, ...] = ()
    """What holds the model back from over-fitting."""
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    seed: Seed = 7
    """Decides the new head's weights, the order of rows and the dropout."""
    execution: Execution = Execution()
    _given: Given | None = PrivateAttr(None)

    @property
    def given(self) -> Given | None:
        """Where the recipe came from, if that was a file; decides nothing and is kept for audits."""
        return self._given

    @property
    def drawing_seed(self) -> int:
        """Decides what is set aside for validation and test."""
        return self.seed if self.data.split.seed is None else self.data.split.seed

    def with_seed(self, seed: int) -> "Recipe":
        """The same recipe trained with another seed, on the same rows."""
        split = self.data.split.model_copy(update={"seed": self.drawing_seed})
        return self.model_copy(update={"seed": seed, "data": self.data.model_copy(update={"split": split})})

    @field_validator("strategies")
    @classmethod
    def _go_together(cls, strategies: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
        strategy_rules.refuse_senseless(strategies)
        return strategies

    @field_validator("regularizers")
    @classmethod
    def _do_not_fight(cls, regularizers: tuple[Regularizer, ...]) -> tuple[Regularizer, ...]:
        regularizer_rules.refuse_senseless(regularizers)
        return regularizers

    @model_validator(mode="after")
    def _makes_sense(self) -> "Recipe":
        refuse_outside(self)
        self._refuse_empty_splits()
        named = {
            f"regularizers.{index}.metric": getattr(r, "metric", None) for index, r in enumerate(self.regularizers)
        }
        watched = {field: metric for field, metric in named.items() if metric}
        self.objective.refuse_unknown_metrics(self.evaluation, watched)
        self.objective.refuse_unfit_baselines(self.evaluation)
        self.objective.refuse_slices(self.evaluation)
        return self

    def _refuse_empty_splits(self) -> None:
        """What the shares leave empty whatever the data: raises RecipeError before any row is read."""
        source, split = self.data.source, self.data.split
        drawn = {name: getattr(split, name) for name in ("validation", "test") if getattr(source, name) is None}
        if sum(drawn.values()) >= 1:
            raise RecipeError("data.split", drawn, "leaves no row to train on", "Set aside smaller shares")
        if drawn.get("test") == 0:
            mend = "Set aside a share, or name data.source.test"
            raise RecipeError("data.split.test", 0.0, "leaves no row for test", mend)
        if drawn.get("validation") == 0 and any(r.kind == "early_stopping" for r in self.regularizers):
            mend = "Set aside a share, name data.source.validation, or remove early_stopping"
            raise RecipeError("data.split.validation", 0.0, "leaves early_stopping nothing to watch", mend)


def check(document: dict[str, Any], folder: Path | None = None, given: Given | None = None) -> Recipe:
    """A recipe from plain data; raises RecipeError naming field, value and mend of each mistake."""
    try:
        recipe = Recipe.model_validate(document, context={"folder": folder} if folder else None)
        recipe._given = given
        return recipe
    except ValidationError as error:
        raise explain(error, Recipe, document) from None
