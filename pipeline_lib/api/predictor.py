"""Predictions of a trained model for texts and DataFrames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.recipe.execution import default_store
from pipeline_lib.scoring.score import locate_model

if TYPE_CHECKING:
    import pandas as pd

    from pipeline_lib.evaluation.predictor import LoadedModel


class Predictor:
    """A trained model that predicts exactly as in its evaluation.

    Load one with `Predictor.load`.
    """

    def __init__(self, model: "LoadedModel", folder: Path):
        self._model, self._folder = model, folder

    @classmethod
    def load(
        cls,
        model: RunOutcome | str | Path,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        tracking_uri: str | None = None,
        store: str | None = None,
    ) -> "Predictor":
        """Load a trained model.

        Args:
            model: What `run` returned, the folder of a trained model, or a model in MLflow: `models:/NAME@champion`,
                `models:/NAME/3` or `models:/ID`.
            device: Where to compute; auto: a GPU if there is one.
            tracking_uri: The address of MLflow, for a model in MLflow; default: $MLFLOW_TRACKING_URI, else
                sqlite:///mlflow.db in the working directory.
            store: The store that caches a model from MLflow; default: $TUNESMITH_STORE, else the folder artifacts.

        Returns:
            The loaded model.

        Raises:
            RecipeError: There is no such model, or its base model is missing.
        """
        from pipeline_lib.evaluation.predictor import LoadedModel

        source = str(model.model_folder if isinstance(model, RunOutcome) else model)
        folder, base = locate_model(source, store or default_store(), tracking_uri)
        return cls(LoadedModel(folder, base, device), folder)

    @property
    def labels(self) -> list[str]:
        """The label names, in the order of the model's outputs; empty where it predicts numbers or texts."""
        return list(self._model.labels)

    def predict(
        self, rows: "Sequence[Any] | pd.DataFrame | pd.Series[Any]", columns: Mapping[str, str] | None = None
    ) -> "pd.DataFrame":
        """Predict for each row.

        Args:
            rows: Texts (for token classification: lists of words), or a DataFrame with a column for each input of the
                model, such as `text`, or `question` and `context`.
            columns: Input -> the column of the DataFrame that holds it, such as `{"text": "message"}`.

        Returns:
            One row for each input, with the DataFrame's index. `prediction` is the label, the list of labels, the
            number or the text; for labels of whole texts there is `probability_LABEL` for each label, and for single
            labels `probability`, that of the predicted one. Rows without a usable input have missing values,
            and `error` says why.

        Raises:
            RecipeError: A column is missing, or the model has no predictions for single rows (language_modeling).
        """
        import pandas as pd

        from pipeline_lib.evaluation.predictor import frame_rows

        if self._model.objective.kind == "language_modeling":
            hint = "Export it with tunesmith export, and load it with transformers"
            raise RecipeError("model", str(self._folder), "is a language model, which cannot predict single rows", hint)
        frame = rows if isinstance(rows, pd.DataFrame) else self._frame(rows)
        roles = self._roles(frame, columns or {})
        inputs = frame[list(roles.values())].set_axis(list(roles), axis=1)
        predictions = self._model.answer(frame_rows(inputs))
        return pd.DataFrame(self._split_probabilities(predictions), index=frame.index)

    def _frame(self, rows: Any) -> "pd.DataFrame":
        """Convert plain values to a DataFrame, for a model with one required input."""
        import pandas as pd

        needed = [role for role, required in self._model.input_roles.items() if required]
        if isinstance(rows, (str, bytes, Mapping)) or len(needed) > 1:
            kind = "a list of texts" if len(needed) == 1 else f"a DataFrame with the columns {', '.join(needed)}"
            raise RecipeError("rows", type(rows).__name__, f"must be {kind}", "Write predict([text]), for example")
        index = rows.index if isinstance(rows, pd.Series) else None
        return pd.DataFrame({needed[0]: pd.Series(list(rows), index, dtype=object)})

    def _roles(self, frame: "pd.DataFrame", columns: Mapping[str, str]) -> dict[str, str]:
        """Return input -> column for the inputs that the DataFrame has."""
        inputs = self._model.input_roles
        unknown = next((role for role in columns if role not in inputs), None)
        if unknown:
            problem = f"is not an input of this model, which reads {', '.join(inputs)}"
            raise RecipeError("columns", unknown, problem, "Write {input: column}")
        column_by_role = {}
        for role, required in inputs.items():
            column = columns.get(role, role)
            if column in frame.columns:
                column_by_role[role] = column
            elif required or role in columns:
                problem = f"is not a column of the DataFrame, which has {', '.join(map(str, frame.columns))}"
                raise RecipeError(f"columns.{role}", column, problem, f'Write columns={{"{role}": the column}}')
            if list(frame.columns).count(column) > 1:
                raise RecipeError(f"columns.{role}", column, "is the name of several columns", "Rename all but one")
        return column_by_role

    def _split_probabilities(self, predictions: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Replace the probabilities of each row by one column for each label."""
        rows = predictions.pop("probabilities", None)
        if rows is None:
            return predictions
        for label in self.labels:
            predictions[f"probability_{label}"] = [None if row is None else row[label] for row in rows]
        predictions["error"] = predictions.pop("error")  # the last column
        return predictions

    def __repr__(self) -> str:
        """Show the objective, the labels and the folder."""
        labels = self.labels
        shown = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
        names = f", labels: {shown}" if labels else ""
        return f"Predictor({self._model.objective.kind}{names}, {self._folder})"
