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
    """What is learned. Each method is one stage on the way of a row through the pipeline."""

    main_metric: ClassVar[str]
    """The metric that selects the best checkpoint unless the recipe names one."""
    dedup_keys: ClassVar[tuple[str, ...]]
    """The roles whose values make two rows one for the split: such rows never part."""
    label_role: ClassVar[str | None] = None
    """The role that holds label names; of each label some rows are trained on."""
    answers_role: ClassVar[str | None] = None
    """The role that lists answers where there may be none: some rows of both kinds are trained on."""
    per_token: ClassVar[bool] = False
    """Whether the model's output is read at every token of the input."""
    generates: ClassVar[bool] = False
    """Whether an evaluation generates text."""
    per_row: ClassVar[bool] = True
    """Whether every row has a score of its own."""
    limits: ClassVar[tuple[str, ...]] = ("max_length",)
    """The fields by which a longer input is cut; none where it is read in parts."""
    input_roles: ClassVar[Mapping[str, bool]]
    """The roles that a served model is given, and whether each must be there."""
    answer_columns: ClassVar[tuple[str, ...]] = ("prediction",)
    """The columns that `predictions` gives."""
    model_columns: ClassVar[tuple[str, ...]] = ("input_ids", "token_type_ids")
    """Columns of an encoded row that are the model's and not the user's."""
    distinguishing: ClassVar[tuple[str, ...]] = ()
    """Roles by which rows that ask the same may differ, so that they do not repeat one another."""
    of_loss: ClassVar[frozenset[str]] = frozenset()
    """Fields that only the loss reads: to change them encodes no row anew, and computes no reference again."""

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
        """A row to be answered, as `clean` keeps the same roles; raises ValueError with the reason where it cannot."""
        from pipeline_lib.objectives.values import is_missing, text_of

        given = {role: row.get(role) for role, needed in input_roles.items() if needed or not is_missing(row.get(role))}
        return {role: text_of(role, value) for role, value in given.items()}

    def read_row(self, tokenizer: "PreTrainedTokenizerBase", row: dict[str, Any]) -> dict[str, Any]:
        """A clean row with what `encode` can reuse; raises ValueError where the tokenizer cannot write it."""
        return row

    def read_input(self, tokenizer: "PreTrainedTokenizerBase", row: dict[str, Any]) -> dict[str, Any]:
        """As `read_row`, of a row to be answered."""
        return row

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Return the Arrow types of the columns from `clean` and `encode`."""
        raise NotImplementedError

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Encode clean rows as token ids, column by column."""
        raise NotImplementedError

    def tokenizer(self, base: Path) -> "PreTrainedTokenizerBase":
        """Load the tokenizer of the base in a local folder, as it is used for this objective."""
        from pipeline_lib.models.base_model import load_tokenizer

        return load_tokenizer(base)

    def labels(self, column: "pyarrow.ChunkedArray") -> list[str]:
        """Return the label names in a label column, sorted; empty if there are none."""
        return []

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """Turn encoded rows into model inputs and targets; rows to be served have no answers, so no targets."""
        raise NotImplementedError

    def target_scale(self, rows: "pyarrow.Table") -> "TargetScale | None":
        """Return the scale of the training rows' targets if they are numbers."""
        return None

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """The pre-trained model from a local folder with this objective's head, and the names of the head's
        parameters: those that the base does not have. `config` overrides values of the model's configuration."""
        raise NotImplementedError

    @property
    def can_pack(self) -> bool:
        """Whether rows may be laid end to end in training: each token is predicted from those before it."""
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
        """Logits of a batch: [rows, outputs], or [rows, length, outputs] for targets by token."""
        return model(**batch).logits

    def outputs(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> Any:
        """Return what `flatten_targets`, `loss_sum` and `collect` read: the logits, unless they would be too large."""
        return self.forward(model, batch, targets)

    def flatten_targets(self, logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """The decisions that the loss counts: logits [units, classes] in float32, and the right class [units]."""
        used = targets >= 0
        return logits[used].float(), targets[used]

    def loss_sum(self, logits: "Tensor", targets: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """Sum of the cross-entropies of all units; the loop divides it by the number of units in the whole step."""
        from torch.nn import functional

        return functional.cross_entropy(
            *self.flatten_targets(logits, targets), reduction="sum", label_smoothing=smoothing
        )

    @property
    def needs_step_mean(self) -> bool:
        """Whether the loss of a part of a step depends on a mean over the whole step."""
        return False

    def step_sum(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """[2]: what a part adds to that mean's numerator and denominator; `forward` gets the mean as `step_mean`."""
        raise NotImplementedError

    def split_loss(self, read: Sequence[Any]) -> float | None:
        """Return a split's mean loss from what `collect` returned, if it is not the mean of its parts' losses."""
        return None

    @property
    def reference_splits(self) -> tuple[str, ...]:
        """The splits of which the reference model's log-probabilities are needed."""
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
        """Predictions in the user's terms, column by column: what is served and what predictions.parquet holds."""
        raise NotImplementedError

    def figures(self, outcome: Any, labels: Sequence[str]) -> "dict[str, Figure]":
        """Figures of an evaluation, by name."""
        return {}

    def row_errors(self, outcome: Any) -> "RowErrors | None":
        """How wrong and how doubtful each row's answer is; None where rows have no answers of their own."""
        return None

    def per_class(self, outcome: Any, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Return metrics for each label; empty if there are none."""
        return []

    def notes(self, labels: Sequence[str]) -> list[str]:
        """Return sentences for the report about how the data was interpreted."""
        return []

    def refuse_unknown_metrics(self, evaluation: "Evaluation", watched: Mapping[str, str]) -> None:
        """Raise RecipeError for a metric that this objective does not have.

        `watched` holds the metrics that pick a checkpoint, by the field that names them.
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
                "is computed from generated text, after training only" if late else "is not a metric of this objective"
            )
            raise RecipeError(field, name, problem, f"Choose one of {', '.join(known)}")

    def refuse_unfit_regularizers(self, regularizers: Sequence[Any]) -> None:
        """Raise RecipeError for a regularizer that means nothing for this objective's loss."""

    def fit_baselines(self) -> tuple[str, ...]:
        """The names that `baselines` knows."""
        return ()

    def baselines(
        self, names: Sequence[str], train: "SplitExamples", test: "SplitExamples"
    ) -> "Mapping[str, Predictions | RowCounts]":
        """Return the predictions for the test rows of simple methods trained on the same rows."""
        raise NotImplementedError

    def refuse_slices(self, evaluation: "Evaluation") -> None:
        """Raise RecipeError where the recipe asks for slices of rows that have no scores of their own."""
        if evaluation.slices and not self.per_row:
            kinds = [part.kind for part in evaluation.slices]
            problem = f"need a score for each row, and {self.kind} scores blocks that span rows"  # type: ignore[attr-defined]
            raise RecipeError("evaluation.slices", kinds, problem, "Leave them out")

    def refuse_unfit_baselines(self, evaluation: "Evaluation") -> None:
        """Raise RecipeError where the recipe asks for a baseline that this objective has not."""
        fit = (*self.fit_baselines(), "untrained")
        for index, name in enumerate(evaluation.baselines):
            if name not in fit:
                problem = "does not fit this objective"
                raise RecipeError(f"evaluation.baselines.{index}", name, problem, f"Choose one of {', '.join(fit)}")


def limit_of(tokenizer: "PreTrainedTokenizerBase", limit: int | None, most: int = 512) -> int:
    """Return the maximum tokens of an input: the recipe's value, else `most`, within the model's own limit."""
    return min(tokenizer.model_max_length, limit or most)
