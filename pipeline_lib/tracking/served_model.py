"""The model as MLflow serves it: the same code that evaluation runs, logged as code and never pickled."""

import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from pipeline_lib.objectives import Objective

if TYPE_CHECKING:
    from mlflow.types import Schema

NEEDS = (
    "accelerate",
    "mlflow",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scipy",
    "torch",
    "transformers",
)
PACKAGE = Path(__file__).parents[1]


class ServedModel(PythonModel):
    """Takes a frame with the objective's text columns, gives the answers that evaluation gives."""

    def load_context(self, context: Any) -> None:
        """Load the model once, onto a GPU where there is one."""
        from pipeline_lib.evaluation.answer import Answerer

        base = context.artifacts.get("base")
        self.answerer = Answerer(Path(context.artifacts["model"]), Path(base) if base else None)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of answers for each row of input."""
        return pd.DataFrame(self.answerer.answer(_records(model_input)))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _schema(objective: Objective) -> "Schema":
    """The columns that are asked for: texts, or lists of words."""
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    return Schema(
        [
            ColSpec(Array(DataType.string) if name == "tokens" else DataType.string, name, required=required)
            for name, required in objective.asked.items()
        ]
    )


def log_model(uri: str, run_id: str, model: Path, base: Path | None, objective: Objective) -> str:
    """Log a model folder (and the base it needs) under a run; returns its models:/ address."""
    from mlflow.models import ModelSignature

    mlflow.set_tracking_uri(uri)
    artifacts = {"model": str(model)} | ({"base": str(base)} if base else {})
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for an input example, which it would load the model to try
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(PACKAGE / "tracking" / "serve.py"),
            artifacts=artifacts,
            code_paths=[str(PACKAGE)],
            signature=ModelSignature(_schema(objective)),
            pip_requirements=[f"{package}=={version(package).split('+')[0]}" for package in NEEDS],
        )
    return f"models:/{logged.model_id}"
