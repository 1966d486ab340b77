"""Classify a text or a pair of texts: one label, several labels, or a number."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.base import ObjectiveSection, limit_of
from pipeline_lib.objectives.cloze import Cloze
from pipeline_lib.objectives.labels import MULTI, REGRESSION, SINGLE, Problem, clean_label, names_in, targets_of
from pipeline_lib.objectives.tokens import token_ids
from pipeline_lib.objectives.values import text_of

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from matplotlib.figure import Figure
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.data.target_scale import TargetScale
    from pipeline_lib.evaluation.predictions import Metric, Predictions
    from pipeline_lib.evaluation.row_errors import RowErrors


class TextClassification(ObjectiveSection):
    """A head on the pooled text (Devlin et al. 2019, section 4.1).

    The loss is cross-entropy for one label, binary cross-entropy averaged over labels for several, squared error for
    a number. Numbers are standardised for training and predicted in the data's unit. The names of `problem_type` are
    those of transformers.
    """

    main_metrics: ClassVar = {SINGLE: "accuracy", MULTI: "micro_f1", REGRESSION: "rmse"}
    dedup_keys: ClassVar = ("text", "text_pair")
    input_roles: ClassVar = {"text": True, "text_pair": False}
    label_role: ClassVar = "label"

    kind: Literal["text_classification"]
    problem_type: Problem = SINGLE
    """One label per row, several labels per row, or a number."""
    label_separator: Annotated[str, Field(min_length=1)] = ","
    """Separator between the labels of a row if the column has several labels as text."""
    multi_hot: bool | None = None
    """Whether label lists are multi-hot: a 0 or 1 per label, named by position from 0; empty: detect it."""
    max_length: PositiveInt | None = None
    """Longer inputs are cut to this many tokens; empty: the model's own limit, at most 512."""
    cloze: Cloze | None = None
    """Predict the label as a word in a template, without a new head; one label per row."""

    @model_validator(mode="after")
    def _fills_in_one_label(self) -> Self:
        if self.cloze and self.problem_type != SINGLE:
            raise ValueError(
                f"cloze predicts one label per row, but problem_type is {self.problem_type}. Remove one of them"
            )
        return self

    @property
    def main_metric(self) -> str:  # type: ignore[override]
        """The metric that selects the best checkpoint unless the recipe names one."""
        return self.main_metrics[self.problem_type]

    def metrics(self) -> Mapping[str, "Metric"]:
        """Metrics by problem type."""
        from pipeline_lib.evaluation.metrics.classification import MULTI_LABEL, SINGLE_LABEL
        from pipeline_lib.evaluation.metrics.regression import REGRESSION as NUMBERS

        return {SINGLE: SINGLE_LABEL, MULTI: MULTI_LABEL, REGRESSION: NUMBERS}[self.problem_type]

    def fit_baselines(self) -> tuple[str, ...]:
        """Those that guess one label a row."""
        return ("majority", "bag_of_words") if self.problem_type == SINGLE else ()

    def baselines(
        self, names: Sequence[str], train: "SplitExamples", test: "SplitExamples"
    ) -> "dict[str, Predictions]":
        """The majority's label, or a bag of words."""
        import numpy as np

        from pipeline_lib.evaluation.baselines import BASELINES
        from pipeline_lib.evaluation.predictions import Predictions

        learned, gold = (np.asarray(split.encoded.targets) for split in (train, test))
        texts = [_join_pairs(split.rows) for split in (train, test)]
        chances = {name: BASELINES[name](texts[0], learned, texts[1], len(test.labels)) for name in names}
        return {name: Predictions(gold, chance.argmax(-1), chance) for name, chance in chances.items()}

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Return text, label, and the second text if the recipe names one."""
        pair = {"text_pair": columns.text_pair} if columns.text_pair else {}
        return {"text": columns.text, **pair, "label": columns.label}

    def input_roles_for(self, columns: "Columns") -> dict[str, bool]:
        """Both texts of a pair are needed; a model of single texts is given no second one."""
        return {"text": True, "text_pair": True} if columns.text_pair else {"text": True}

    @property
    def answer_columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The columns that `predictions` returns."""
        more = {SINGLE: ("probability", "probabilities"), MULTI: ("probabilities",), REGRESSION: ()}
        return ("prediction", *more[self.problem_type])

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Texts as strings, the label in the type of its problem (`pipeline_lib.objectives.values`)."""
        texts = {role: text_of(role, value) for role, value in row.items() if role != "label"}
        return {**texts, "label": self._label(row["label"])}

    def _label(self, value: Any) -> str | list[str] | float:
        return clean_label(value, self.problem_type, self.label_separator, self.multi_hot)

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Texts, label, token ids."""
        import pyarrow as pa

        label = {SINGLE: pa.string(), MULTI: pa.list_(pa.string()), REGRESSION: pa.float64()}[self.problem_type]
        return [
            ("text", pa.string()),
            ("text_pair", pa.string()),
            ("label", label),
            ("input_ids", pa.list_(pa.int32())),
            ("token_type_ids", pa.list_(pa.int8())),
        ]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Token ids with special tokens, cut to `max_length`; segment ids only for pairs without a template."""
        if self.cloze:
            ids = self.cloze.encode(tokenizer, rows, self.max_length)
            return {"input_ids": ids, "token_type_ids": [None] * len(rows)}
        paired = any(row.get("text_pair") for row in rows)
        pairs = [row["text_pair"] for row in rows] if paired else None
        limit = limit_of(tokenizer, self.max_length)
        ids, segments = token_ids(tokenizer, [row["text"] for row in rows], pairs, limit=limit)
        reads_segments = paired and "token_type_ids" in tokenizer.model_input_names
        return {"input_ids": ids, "token_type_ids": segments if reads_segments else [None] * len(rows)}

    def labels(self, column: "pyarrow.ChunkedArray") -> list[str]:
        """Return label names in the order of their ids: by number if all are numbers, else alphabetically."""
        return names_in(column, self.problem_type)

    def target_scale(self, rows: "pyarrow.Table") -> "TargetScale | None":
        """The mean and the deviation of the training rows' numbers."""
        from pipeline_lib.data.target_scale import TargetScale

        return TargetScale.from_targets(rows["label"].to_numpy()) if self.problem_type == REGRESSION else None

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForSequenceClassification with one output a label, or one for a number; or the cloze's model."""
        if self.cloze:
            return self.cloze.model(base, labels, **config)
        from transformers import AutoModelForSequenceClassification

        from pipeline_lib.models.head_precision import compute_head_in_fp32
        from pipeline_lib.models.loading import load_pretrained
        from pipeline_lib.training.fast_paths.cls_only import compute_first_place_alone

        names, kind = list(labels) or ["value"], AutoModelForSequenceClassification
        model, head = load_pretrained(kind, base, names, problem_type=self.problem_type, **config)
        if hasattr(model, "sequence_summary") and getattr(model.config, "summary_type", "first") == "last":
            problem = (
                f"is of the family {model.config.model_type}, whose head reads the last position even if it is padding"
            )
            raise RecipeError("model.base", base, problem, "Choose another base")
        compute_first_place_alone(model)
        compute_head_in_fp32(model)
        return model, head

    def forward(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """[rows, outputs] logits."""
        return self.cloze.forward(model, batch) if self.cloze else super().forward(model, batch, targets)

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """One input a row; targets [rows] int64 ids, [rows, labels] float32 zeros and ones, or [rows] float32."""
        from pipeline_lib.data.examples import Examples, Ragged

        segments = rows["token_type_ids"]
        return Examples(
            Ragged.from_lists(rows["input_ids"]),
            targets_of(rows["label"], labels, self.problem_type),
            Ragged.from_lists(segments) if len(rows) and not segments.null_count else None,
        )

    def loss_sum(self, logits: "Tensor", targets: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """Sum over the rows of logits [rows, outputs] against targets as `features` gives them."""
        from torch.nn import functional

        if self.problem_type == SINGLE:
            return super().loss_sum(logits, targets, smoothing)
        if self.problem_type == REGRESSION:
            return functional.mse_loss(logits.float().squeeze(-1), targets, reduction="sum")
        spread = targets * (1 - smoothing) + smoothing / 2  # each label is a choice of two classes
        total = functional.binary_cross_entropy_with_logits(logits.float(), spread, reduction="sum")
        return total / logits.shape[-1]

    def _decide(
        self, logits: "numpy.ndarray", scale: "TargetScale | None"
    ) -> "tuple[numpy.ndarray, numpy.ndarray | None]":
        """Guesses and probabilities: the likeliest label, every label above one half, or the number in its unit."""
        import numpy as np
        from scipy.special import expit, softmax

        if self.problem_type == REGRESSION:
            return scale.restore(logits[:, 0]) if scale else logits[:, 0], None
        if self.problem_type == SINGLE:
            return logits.argmax(-1), softmax(logits, axis=-1)
        return (logits > 0).astype(np.int64), expit(logits)

    def metric_inputs(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "Predictions":
        """Decisions beside the rows' targets."""
        import numpy as np

        from pipeline_lib.evaluation.predictions import Predictions

        gold = split.rows["label"].to_numpy() if self.problem_type == REGRESSION else split.encoded.targets
        return Predictions(np.asarray(gold), *self._decide(np.stack(read), split.scale))

    def predictions(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """`prediction`; for labels also the probabilities by label, for one label its own."""
        import numpy as np

        labels = split.labels
        guess, chances = self._decide(np.stack(read), split.scale)
        if chances is None:
            return {"prediction": [float(number) for number in guess]}
        if self.problem_type == SINGLE:
            return {
                "prediction": [labels[index] for index in guess],
                "probability": chances.max(-1).tolist(),
                "probabilities": [dict(zip(labels, row, strict=True)) for row in chances.tolist()],
            }
        picked = [[labels[index] for index in row.nonzero()[0]] for row in guess]
        named = [dict(zip(labels, row, strict=True)) for row in chances.tolist()]
        return {"prediction": picked, "probabilities": named}

    def figures(self, outcome: "Predictions", labels: Sequence[str]) -> "dict[str, Figure]":
        """Return figures of the errors and of the calibration."""
        from pipeline_lib.evaluation.metrics.classification import confusion_matrix
        from pipeline_lib.evaluation.report import figures

        if self.problem_type == REGRESSION:
            return {"scatter": figures.scatter(outcome)}
        shown = {"reliability": figures.reliability(outcome)}
        if self.problem_type == SINGLE:
            shown["confusion"] = figures.confusion(confusion_matrix(outcome), labels)
        return shown

    def row_errors(self, outcome: "Predictions") -> "RowErrors":
        """Surprise at the right labels, or distance from the right number."""
        from pipeline_lib.evaluation.row_errors import classification_errors, regression_errors

        return regression_errors(outcome) if self.problem_type == REGRESSION else classification_errors(outcome)

    def per_class(self, outcome: "Predictions", labels: Sequence[str]) -> list[dict[str, Any]]:
        """Precision, recall, F1 and support of each label."""
        from pipeline_lib.evaluation.metrics.classification import per_class

        return per_class(outcome, labels) if labels else []


def _join_pairs(rows: "pyarrow.Table") -> list[str]:
    pairs = zip(rows["text"].to_pylist(), rows["text_pair"].to_pylist(), strict=True)
    return [" ".join(part for part in pair if part) for pair in pairs]
