"""The recipe: one schema for YAML files, command-line overrides and the form in Prefect's UI."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline_lib import regularizers as regularizer_rules
from pipeline_lib import strategies as strategy_rules
from pipeline_lib.data.settings import Data
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.settings import Evaluation
from pipeline_lib.models.settings import Model
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe.chat_template import read_chat_template
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.path_policy import refuse_outside
from pipeline_lib.recipe.validation_errors import first_mistake
from pipeline_lib.regularizers import Regularizer
from pipeline_lib.strategies import Full, Strategy
from pipeline_lib.training.settings import Training
from pipeline_lib.util.section import Section, Seed


class Given(NamedTuple):
    """Where a recipe came from: its file, the file's text and the overrides."""

    file: str
    text: str
    overrides: tuple[str, ...]


class Recipe(Section):
    """One fine-tuning run from data to scores. Everything except `execution` and
    `training.gradient_checkpointing` affects the result."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.-]*$", max_length=100)]
    """Name of the run in Prefect and MLflow; letters, digits, dots, dashes and underscores."""
    data: Data
    model: Model
    objective: Objective
    """What the model learns."""
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = (Full(kind="full"),)
    """Which parameters are trained, and at which learning rates; applied in order."""
    regularizers: tuple[Regularizer, ...] = ()
    """Methods against overfitting."""
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    seed: Seed = 7
    """Random seed of the new head's weights, the order of rows and the dropout."""
    execution: Execution = Execution()
    _given: Given | None = PrivateAttr(None)

    @property
    def given(self) -> Given | None:
        """The file that the recipe was loaded from, if any; kept for audits, without effect on the result."""
        return self._given

    @property
    def drawing_seed(self) -> int:
        """The seed of the split into training, validation and test rows."""
        return self.seed if self.data.split.seed is None else self.data.split.seed

    def with_seed(self, seed: int) -> "Recipe":
        """Return the recipe with another training seed but the same split of the rows."""
        split = self.data.split.model_copy(update={"seed": self.drawing_seed})
        return self.model_copy(update={"seed": seed, "data": self.data.model_copy(update={"split": split})})

    @model_validator(mode="before")
    @classmethod
    def _read_chat_template(cls, document: Any, info: ValidationInfo) -> Any:
        return read_chat_template(document, (info.context or {}).get("folder"))

    @field_validator("strategies")
    @classmethod
    def _check_strategies(cls, strategies: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
        strategy_rules.refuse_senseless(strategies)
        return strategies

    @field_validator("regularizers")
    @classmethod
    def _check_regularizers(cls, regularizers: tuple[Regularizer, ...]) -> tuple[Regularizer, ...]:
        regularizer_rules.refuse_senseless(regularizers)
        return regularizers

    @model_validator(mode="after")
    def _check_combinations(self) -> "Recipe":
        refuse_outside(self)
        self._refuse_empty_splits()
        if self.model.quantization:
            strategy_rules.refuse_quantized(self.strategies)
        if self.training.packing:
            self._refuse_senseless_packing()
        named = {
            f"regularizers.{index}.metric": getattr(r, "metric", None) for index, r in enumerate(self.regularizers)
        }
        watched = {field: metric for field, metric in named.items() if metric}
        self.objective.refuse_unknown_metrics(self.evaluation, watched)
        self.objective.refuse_unfit_regularizers(self.regularizers)
        self.objective.refuse_unfit_baselines(self.evaluation)
        self.objective.refuse_slices(self.evaluation)
        return self

    def _refuse_senseless_packing(self) -> None:
        """Raise RecipeError for packing with an objective or a regularizer that reads each row by itself."""
        hint = "Leave out training.packing"
        if not self.objective.can_pack:
            problem = f"needs a decoder that learns every next token, which {self.objective.kind} does not train"
            if self.objective.kind == "language_modeling":
                problem = "needs objective.modeling: causal"
            raise RecipeError("training.packing", True, problem, hint)
        if any(regularizer.kind == "neftune" for regularizer in self.regularizers):
            problem = "cannot be combined with neftune, whose noise depends on the length of each row"
            raise RecipeError("training.packing", True, problem, hint)

    def _refuse_empty_splits(self) -> None:
        """Raise RecipeError for split shares that leave a split empty whatever the data; no row is read yet."""
        source, split = self.data.source, self.data.split
        drawn = {name: getattr(split, name) for name in ("validation", "test") if getattr(source, name) is None}
        if sum(drawn.values()) >= 1:
            raise RecipeError("data.split", drawn, "leaves no training rows", "Set aside smaller shares")
        if drawn.get("test") == 0:
            hint = "Set aside a share, or name data.source.test"
            raise RecipeError("data.split.test", 0.0, "leaves no test rows", hint)
        if drawn.get("validation") == 0 and any(r.kind == "early_stopping" for r in self.regularizers):
            hint = "Set aside a share, name data.source.validation, or remove early_stopping"
            raise RecipeError("data.split.validation", 0.0, "leaves no validation rows for early_stopping", hint)


def check(document: dict[str, Any], folder: Path | None = None, given: Given | None = None) -> Recipe:
    """Validate plain data as a recipe.

    Args:
        document: The fields of the recipe.
        folder: Folder that relative paths refer to; None leaves them unchanged.
        given: Where the recipe came from.

    Raises:
        RecipeError: Names the field, its value and how to fix it; its notes have the other mistakes.
    """
    try:
        recipe = Recipe.model_validate(document, context={"folder": folder} if folder else None)
        recipe._given = given
        return recipe
    except ValidationError as error:
        raise first_mistake(error, Recipe, document) from None
