"""The model as an MLflow pyfunc: it runs the same code as the evaluation and is logged as code, not pickled."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel, LoggedModelOutput, Run
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.tracking import MlflowClient

from pipeline_lib.models.building import POINTER, read_card
from pipeline_lib.objectives import Objective
from pipeline_lib.tracking.base_model import keep_base
from pipeline_lib.util.temporary import temporary_folder

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


class NamedModel(NamedTuple):
    """Return a logged model's name, its objective and its main parameters."""

    name: str
    objective: Objective
    parameters: Mapping[str, Any]


class ServedModel(PythonModel):
    """Predicts from a DataFrame with the objective's input columns, exactly as the evaluation does."""

    def load_context(self, context: Any) -> None:
        """Load the model once, onto a GPU where there is one."""
        from pipeline_lib.evaluation.predictor import LoadedModel
        from pipeline_lib.tracking.base_model import fetch_served_base

        pointer = context.artifacts.get(POINTER)
        base = fetch_served_base(Path(pointer)) if pointer else None
        self.model = LoadedModel(Path(context.artifacts["model"]), base)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row of predictions for each input row; `error` says why a row has none."""
        from pipeline_lib.evaluation.predictor import frame_rows

        return pd.DataFrame(self.model.answer(frame_rows(model_input)))


def _schema(input_roles: Mapping[str, bool]) -> "Schema":
    """Return a signature with the input columns, of any type: rows are validated one by one, as in training."""
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    return Schema([ColSpec(AnyType(), name, required=required) for name, required in input_roles.items()])


def log_model(
    client: MlflowClient, run: Run, named: NamedModel, model: Path, base: Path | None, example: Mapping[str, Any]
) -> str:
    """Log a model folder as the model of a run, and return its models:/ address; a shared base is logged only once.

    The model is saved and uploaded in two steps: `pyfunc.log_model` would load it to try the input example, for which
    there may be too little memory right after training, and it would end the run.
    """
    logged = _find_logged_model(client, run) or client.create_logged_model(
        run.info.experiment_id,
        re.sub(r"[/:.%\"']", "_", named.name),  # MLflow takes none of these in the name of a logged model
        source_run_id=run.info.run_id,
        params={name: str(value) for name, value in named.parameters.items()},
        model_type=named.objective.kind,
    )
    known = {"model_id": logged.model_id, "model_uuid": logged.model_id, "run_id": run.info.run_id}
    with temporary_folder() as folder:
        parts = {"model": model.absolute()} | ({POINTER: keep_base(client, base, folder)} if base else {})
        mlflow.pyfunc.save_model(
            folder / "model",
            mlflow_model=Model(artifact_path=logged.artifact_location, **known),
            python_model=str(PACKAGE / "tracking" / "pyfunc_entry.py"),
            # as URLs: MLflow resolves escapes, such as %20, in plain paths too
            artifacts={name: part.as_uri() for name, part in parts.items()},
            code_paths=[str(PACKAGE)],
            signature=ModelSignature(_schema(read_card(model)["asked"])),
            input_example=pd.DataFrame([example]) if example else None,
            pip_requirements=_requirements(model),
        )
        client.log_model_artifacts(logged.model_id, str(folder / "model"))
    client.finalize_logged_model(logged.model_id, "READY")
    link_model(client, run.info.run_id, logged.model_id)
    return f"models:/{logged.model_id}"


def _requirements(model: Path) -> list[str]:
    """Return the packages that a model's folder needs, in the installed versions."""
    needs = (*NEEDS, "bitsandbytes") if read_card(model)["quantization"] else NEEDS
    return [f"{package}=={version(package).split('+')[0]}" for package in needs]


def link_model(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Link a logged model to the run that created it, unless it is linked already, which MLflow would reject."""
    outputs = client.get_run(run_id).outputs
    listed = outputs.model_outputs if outputs else []
    if model_id not in {output.model_id for output in listed}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])


def _find_logged_model(client: MlflowClient, run: Run) -> LoggedModel | None:
    """Return the logged model that a killed process left incomplete, so that its files are written again."""
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return found[0] if found else None
