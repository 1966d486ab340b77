"""Where and how a run is carried out, and where MLflow is."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.redaction import redact, remember
from pipeline_lib.util.section import Reach, Section


def default_store() -> str:
    """Return the store of recipes that name none: a bucket in containers, whose folders do not outlive them."""
    return os.environ.get("TUNESMITH_STORE") or "artifacts"


class Execution(Section):
    """Where and how a run is carried out; of all this only the precision is part of what is computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the matrix work, heads aside; auto: bf16 where the device computes in it, else fp32. Another
    precision trains another model."""
    processes: PositiveInt = 1
    """Processes that train together on this machine, on the CPU or with one GPU each; they share each step's rows."""
    store: Annotated[str, Reach.STORE] = Field(default_factory=default_store, validate_default=True)
    """The artifact store: a folder, relative to the working directory, or a URL that machines share (s3://bucket/prefix);
    empty: $TUNESMITH_STORE, else the folder artifacts."""
    tracking_uri: Annotated[str | None, Reach.TRACKING] = None
    """MLflow's address; empty: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working directory."""
    when_mlflow_is_down: Literal["train", "fail"] = "train"
    """What a run does that starts while MLflow does not answer: train waits 30 seconds for it, then trains and delivers
    the curves when it is back; fail waits 30 seconds, then ends the run before any work."""
    experiment: str = "tunesmith"
    """MLflow experiment that the runs belong to."""
    checkpoint_seconds: PositiveFloat = 60
    """A killed training loses at most this much work."""
    workers: PositiveInt = 1
    """How many source files are encoded side by side, each in a process of its own; 1: here, one after the other."""
    task_runner: Literal["processes", "threads", "ray", "dask"] = "processes"
    """Who encodes files side by side in a Prefect flow; ray and dask need the extra of that name (`tunesmith[ray]`)."""
    watts: PositiveFloat | None = None
    """What the machine draws while it trains; given, a training's energy is logged."""
    cost_per_hour: PositiveFloat | None = None
    """What an hour on this machine costs, in your currency; given, a training's cost is logged."""
    cluster: Annotated[str | None, Reach.CLUSTER] = None
    """Address of a Ray or Dask cluster; empty: one of `workers` processes is started on this machine."""

    @field_validator("store", "tracking_uri")
    @classmethod
    def _keep_its_password(cls, url: str | None) -> str | None:
        remember(url)  # to hide it wherever it turns up
        return url

    @model_validator(mode="after")
    def _makes_sense(self) -> "Execution":
        if self.precision == "fp16" and self.device == "cpu":
            problem = "needs a GPU, and execution.device is cpu"
            raise RecipeError("execution.precision", "fp16", problem, "Choose bf16, fp32 or auto")
        if self.cluster and self.task_runner not in ("ray", "dask"):
            problem = f"is not used, as execution.task_runner is {self.task_runner}"
            raise RecipeError("execution.cluster", self.cluster, problem, "Choose ray or dask, or leave it out")
        return self


def tracking_uri(execution: Execution) -> str:
    """MLflow's address for an execution."""
    return (
        execution.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"
    )


def mlflow_page(execution: Execution) -> str:
    """Return MLflow's address in a browser: $MLFLOW_UI_URL where it is not the one that runs use (compose)."""
    return redact(os.environ.get("MLFLOW_UI_URL") or tracking_uri(execution))
