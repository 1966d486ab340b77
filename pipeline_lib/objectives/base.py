"""The interface of an objective, from a source row to its score."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.figure import Figure
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.data.target_scale import TargetScale
    from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
    from pipeline_lib.evaluation.row_errors import RowErrors
    from pipeline_lib.evaluation.settings import Evaluation
    from pipeline_lib.models.generation import Generated


class ObjectiveSection(Section):
    """What the model learns. Each method is one stage of the path from a row to a prediction."""

    main_metric: ClassVar[str]
    """The metric that selects the best checkpoint unless the recipe names one."""
    dedup_keys: ClassVar[tuple[str, ...]]
    """Rows with equal values of these roles are always in the same split."""
    label_role: ClassVar[str | None] = None
    """The role with label names; the training split gets some rows of each label."""
    answers_role: ClassVar[str | None] = None
    """The role with a list of answers, possibly empty; the training split gets rows with and without answers."""
    per_token: ClassVar[bool] = False
    """Whether the model's output is read at every token of the input."""
    generates: ClassVar[bool] = False
    """Whether an evaluation generates text."""
    per_row: ClassVar[bool] = True
    """Whether each row has a score (not if inputs span several rows)."""
    limits: ClassVar[tuple[str, ...]] = ("max_length",)
    """The fields with the length at which inputs are truncated; none if long inputs are read in windows."""
    input_roles: ClassVar[Mapping[str, bool]]
    """The input roles of a served model, and whether each is required."""
    answer_columns: ClassVar[tuple[str, ...]] = ("prediction",)
    """The columns that `predictions` returns."""
    model_columns: ClassVar[tuple[str, ...]] = ("input_ids", "token_type_ids")
    """Columns of encoded rows that are model inputs, not the user's values."""
    distinguishing: ClassVar[tuple[str, ...]] = ()
    """Roles that distinguish rows with equal inputs, so that such rows do not count as duplicates."""
    of_loss: ClassVar[frozenset[str]] = frozenset()
    """Fields that only the loss uses: changing them does not encode rows or compute the reference again."""

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Return the source columns to read: role -> column name."""
        raise NotImplementedError

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Validate a row and return its values by role; raises ValueError with the reason if it is unusable."""
        raise NotImplementedError

    def input_roles_for(self, columns: "Columns") -> dict[str, bool]:
        """Return the `input_roles` of a model that is trained on these columns."""
        return dict(self.input_roles)

    def clean_input(self, row: Mapping[str, Any], input_roles: Mapping[str, bool]) -> dict[str, Any]:
        """Validate the input roles of a row to predict, as `clean` does; raises ValueError if it is unusable."""
        from pipeline_lib.objectives.values import is_missing, text_of

        given = {role: row.get(role) for role, needed in input_roles.items() if needed or not is_missing(row.get(role))}
        return {role: text_of(role, value) for role, value in given.items()}

    def read_row(self, tokenizer: "PreTrainedTokenizerBase", row: dict[str, Any]) -> dict[str, Any]:
        """Add values that `encode` can reuse to a clean row; raises ValueError if it cannot be tokenized."""
        return row

    def read_input(self, tokenizer: "PreTrainedTokenizerBase", row: dict[str, Any]) -> dict[str, Any]:
        """Do the same as `read_row` for a row to predict."""
        return row

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Return the Arrow types of the columns from `clean` and `encode`."""
        raise NotImplementedError

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Encode clean rows as token ids, column by column."""
        raise NotImplementedError

    def tokenizer(self, base: Path) -> "PreTrainedTokenizerBase":
        """Load the tokenizer from the base's local folder, configured for this objective."""
        from pipeline_lib.models.base_model import load_tokenizer

        return load_tokenizer(base)

    def labels(self, column: "pyarrow.ChunkedArray") -> list[str]:
        """Return the label names in a label column, sorted; empty if there are none."""
        return []

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """Turn encoded rows into model inputs and targets; rows to predict have no targets."""
        raise NotImplementedError

    def target_scale(self, rows: "pyarrow.Table") -> "TargetScale | None":
        """Return the scale of the training rows' targets if they are numbers."""
        return None

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """Load the pre-trained model from a local folder with this objective's head.

        Returns the model and the names of the head's parameters, which the base does not have. `config` overrides
        values of the model's configuration.
        """
        raise NotImplementedError

    @property
    def can_pack(self) -> bool:
        """Whether rows can be packed in training, because each token is predicted from the tokens before it."""
        return False

    @property
    def stochastic_targets(self) -> bool:
        """Whether `mask_inputs` hides different tokens in every step."""
        return False

    def mask_inputs(
        self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor"
    ) -> "tuple[dict[str, Tensor], Tensor]":
        """Mask a batch and return it with its targets; unchanged if the objective does not mask."""
        return batch, targets

    def forward(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """Return logits of a batch: [rows, outputs], or [rows, length, outputs] for targets per token."""
        return model(**batch).logits

    def outputs(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> Any:
        """Return what `flatten_targets`, `loss_sum` and `collect` read: the logits, unless they would be too large."""
        return self.forward(model, batch, targets)

    def flatten_targets(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return the units of the loss: float32 logits [units, classes] and the correct classes [units]."""
        used = targets >= 0
        return logits[used].float(), targets[used]

    def loss_sum(self, logits: "Tensor", targets: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """Return the summed cross-entropy of all units; the loop divides it by the number of units of the step."""
        from torch.nn import functional

        return functional.cross_entropy(
            *self.flatten_targets(logits, targets), reduction="sum", label_smoothing=smoothing
        )

    @property
    def needs_step_mean(self) -> bool:
        """Whether the loss of a part of a step depends on a mean over the whole step."""
        return False

    def step_sum(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """Return [2]: a part's share of the mean's numerator and denominator; `forward` gets `step_mean`."""
        raise NotImplementedError

    def split_loss(self, read: Sequence[Any]) -> float | None:
        """Return a split's mean loss from what `collect` returned, if it is not the mean of its parts' losses."""
        return None

    @property
    def reference_splits(self) -> tuple[str, ...]:
        """The splits that need log-probabilities of the reference model."""
        return ()

    def collect(self, logits: "Tensor", targets: "Tensor") -> list[Any]:
        """Reduce a batch's logits to the arrays to keep, one per group of inputs."""
        return list(logits.float().cpu().numpy())

    @property
    def max_generated(self) -> int:
        """Return the maximum tokens of a generated text; 0 if none is generated."""
        return 0

    def generation_inputs(self, encoded: "Examples") -> "Examples":
        """Return the inputs for generation, without any part of the answer."""
        return encoded

    def generate(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        batch: "dict[str, Tensor]",
        targets: "Tensor",
    ) -> "list[Generated]":
        """Generate a text for each input; called only if the objective `generates`."""
        raise NotImplementedError

    def metrics(self) -> Mapping[str, "Metric"]:
        """Return the metrics of this objective by name."""
        raise NotImplementedError

    def metric_inputs(
        self, read: Sequence[Any], split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "Predictions | RowCounts":
        """Return what the metrics are computed from; metrics of generated text need `texts`."""
        raise NotImplementedError

    def predictions(
        self, read: Sequence[Any], split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """Return predictions by column, as served and as written to predictions.parquet."""
        raise NotImplementedError

    def figures(self, outcome: Any, labels: Sequence[str]) -> "dict[str, Figure]":
        """Return figures of an evaluation by name."""
        return {}

    def row_errors(self, outcome: Any) -> "RowErrors | None":
        """Return the error and the margin of each row; None if rows have no separate predictions."""
        return None

    def per_class(self, outcome: Any, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Return metrics for each label; empty if there are none."""
        return []

    def notes(self, labels: Sequence[str]) -> list[str]:
        """Return sentences for the report about how the data was interpreted."""
        return []

    def refuse_unknown_metrics(self, evaluation: "Evaluation", watched: Mapping[str, str]) -> None:
        """Raise RecipeError for a metric that this objective does not have.

        `watched` maps fields of the recipe to the metric that they name for selecting a checkpoint.
        """
        for index, name in enumerate(evaluation.metrics):
            self._refuse_unknown_metric(f"evaluation.metrics.{index}", name, [*self.metrics()])
        watchable = [name for name, metric in self.metrics().items() if not metric.of_text]
        for field, name in watched.items():
            self._refuse_unknown_metric(field, name, [*watchable, "loss"])

    def _refuse_unknown_metric(self, field: str, name: str, known: list[str]) -> None:
        if name not in known:
            late = name in self.metrics()
            problem = (
                "is computed from generated text, which is only generated after training"
                if late
                else "is not a metric of this objective"
            )
            raise RecipeError(field, name, problem, f"Choose one of {', '.join(known)}")

    def refuse_unfit_regularizers(self, regularizers: Sequence[Any]) -> None:
        """Raise RecipeError for a regularizer that does not apply to this objective's loss."""

    def fit_baselines(self) -> tuple[str, ...]:
        """Return the names of the baselines that this objective supports."""
        return ()

    def baselines(
        self, names: Sequence[str], train: "SplitExamples", test: "SplitExamples"
    ) -> "Mapping[str, Predictions | RowCounts]":
        """Return the predictions for the test rows of simple methods trained on the same rows."""
        raise NotImplementedError

    def refuse_slices(self, evaluation: "Evaluation") -> None:
        """Raise RecipeError if the recipe has slices but rows have no separate scores."""
        if evaluation.slices and not self.per_row:
            kinds = [part.kind for part in evaluation.slices]
            problem = f"need a score for each row, but {self.kind} scores blocks that span rows"  # type: ignore[attr-defined]
            raise RecipeError("evaluation.slices", kinds, problem, "Leave them out")

    def refuse_unfit_baselines(self, evaluation: "Evaluation") -> None:
        """Raise RecipeError for a baseline that this objective does not support."""
        fit = (*self.fit_baselines(), "untrained")
        for index, name in enumerate(evaluation.baselines):
            if name not in fit:
                problem = "does not fit this objective"
                raise RecipeError(f"evaluation.baselines.{index}", name, problem, f"Choose one of {', '.join(fit)}")


def limit_of(tokenizer: "PreTrainedTokenizerBase", limit: int | None, most: int = 512) -> int:
    """Return the maximum tokens of an input: the recipe's value, else `most`, within the model's own limit."""
    return min(tokenizer.model_max_length, limit or most)
