"""The recipe's `execution` section: device, precision, processes, store and MLflow server."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.redaction import redact, remember
from pipeline_lib.util.section import Reach, Section


def default_store() -> str:
    """Return the default store; containers set $TUNESMITH_STORE to a bucket, as their folders are not permanent."""
    return os.environ.get("TUNESMITH_STORE") or "artifacts"


class Execution(Section):
    """Where and how a run is executed; precision, attention and compilation alone change the results."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of matrix multiplications, except in the head; auto: bf16 if the GPU supports it or, on a CPU, if a
    measurement of a second, made once per machine, finds it faster; else fp32. A different precision means a different
    model, so the training is not reused."""
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    """Implementation of attention in training, by transformers' name; auto: the one that transformers chooses for the
    family. flash_attention_2 needs a GPU, bf16 or fp16, and the package flash-attn. They differ in rounding, so naming
    one trains another model."""
    compile: bool = False
    """Compile the layers with torch.compile for training on a GPU; the first steps take longer. It differs in rounding,
    so it trains another model."""
    processes: PositiveInt = 1
    """Number of processes for data-parallel training on each machine, on the CPU or with one GPU each; the rows of each
    step are divided between them."""
    machines: PositiveInt = 1
    """Number of machines that train together. This one starts the training; each of the others runs `tunesmith worker`.
    Needs `rendezvous`, and a store that all of them can reach by its URL."""
    rendezvous: Annotated[str | None, Reach.RENDEZVOUS] = None
    """HOST:PORT where the machines of a training meet: an address of this machine and a free port. PyTorch's traffic
    between machines is neither encrypted nor authenticated and can make a peer run code, so use an address in a private
    network whose machines you trust."""
    sharding: Literal["auto", "none", "full", "hybrid"] = "auto"
    """How a training in several processes divides the model. none: every process has a copy; full: weights, gradients
    and optimizer are divided among all processes; hybrid: among those of a machine, and every machine has a copy; auto:
    full if a copy would take more than 70 % of the memory of a process's device, else none."""
    store: Annotated[str, Reach.STORE] = Field(default_factory=default_store, validate_default=True)
    """The artifact store: a folder, relative to the working directory, or a URL that several machines can share
    (s3://bucket/prefix); empty: $TUNESMITH_STORE, else the folder artifacts."""
    tracking_uri: Annotated[str | None, Reach.TRACKING] = None
    """MLflow's address; empty: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working directory."""
    when_mlflow_is_down: Literal["train", "fail"] = "train"
    """What to do if MLflow does not respond when a run starts. Both wait 30 seconds for it; then train starts training
    and uploads the curves once MLflow is back, and fail stops the run before any work is done."""
    experiment: str = "tunesmith"
    """Name of the MLflow experiment that runs are logged to."""
    checkpoint_seconds: PositiveFloat = 60
    """Seconds between checkpoints; a killed training loses at most this much work."""
    workers: PositiveInt = 1
    """Number of source files to encode in parallel, each in its own process; 1: no parallel processes."""
    task_runner: Literal["processes", "threads", "ray", "dask"] = "processes"
    """What runs parallel encoding in a Prefect flow; ray and dask need the extra of that name (`tunesmith[ray]`)."""
    watts: PositiveFloat | None = None
    """Power that the machine draws during training, in watts; if set, the energy of a training is logged."""
    cost_per_hour: PositiveFloat | None = None
    """Cost of this machine per hour, in your currency; if set, the cost of a training is logged."""
    cluster: Annotated[str | None, Reach.CLUSTER] = None
    """Address of a Ray or Dask cluster; empty: a local cluster with `workers` processes is started on this machine."""

    @property
    def ranks(self) -> int:
        """Number of processes of a training on all machines."""
        return self.processes * self.machines

    @field_validator("store", "tracking_uri")
    @classmethod
    def _remember_password(cls, url: str | None) -> str | None:
        remember(url)  # so that it is redacted wherever it appears
        return url

    @model_validator(mode="after")
    def _check_combinations(self) -> "Execution":
        if self.precision == "fp16" and self.device == "cpu":
            problem = "needs a GPU, and execution.device is cpu"
            raise RecipeError("execution.precision", "fp16", problem, "Choose bf16, fp32 or auto")
        if self.compile and self.device == "cpu":
            problem = "needs a GPU, and execution.device is cpu"
            raise RecipeError("execution.compile", True, problem, "Leave it out")
        if self.attention == "flash_attention_2":
            fields = {"device": "cpu", "precision": "fp32"}
            for field, unfit in fields.items():
                if getattr(self, field) == unfit:
                    problem = f"cannot be used, as execution.{field} is {unfit}"
                    raise RecipeError("execution.attention", self.attention, problem, "Choose auto or sdpa")
        self._check_machines()
        if self.cluster and self.task_runner not in ("ray", "dask"):
            problem = f"is not used, as execution.task_runner is {self.task_runner}"
            raise RecipeError("execution.cluster", self.cluster, problem, "Choose ray or dask, or leave it out")
        return self

    def _check_machines(self) -> None:
        """Raise RecipeError if several machines could not find each other or their inputs."""
        if self.rendezvous is not None:
            parse_endpoint(self.rendezvous)
        if self.machines == 1:
            return
        if self.rendezvous is None:
            problem = "needs execution.rendezvous, where the machines meet"
            hint = "Set it to an address of this machine and a free port, for example 10.0.0.1:29400"
            raise RecipeError("execution.machines", self.machines, problem, hint)
        if "://" not in self.store:
            problem = f"is a folder, which the other machines of execution.machines = {self.machines} cannot read"
            raise RecipeError("execution.store", self.store, problem, "Set it to a URL, for example s3://bucket/prefix")


def parse_endpoint(endpoint: str, field: str = "execution.rendezvous") -> tuple[str, int]:
    """Return host and port of HOST:PORT; an IPv6 address is in brackets. Raises RecipeError for anything else."""
    host, _, port = endpoint.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare) != (bare != host) or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise RecipeError(field, endpoint, "must be HOST:PORT", "Write for example 10.0.0.1:29400")
    return bare, int(port)


def tracking_uri(execution: Execution) -> str:
    """Return the URI of the MLflow server or database of an execution."""
    return (
        execution.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"
    )


def mlflow_page(execution: Execution) -> str:
    """Return the MLflow address for a browser: $MLFLOW_UI_URL if it differs from the one runs use, as in compose."""
    return redact(os.environ.get("MLFLOW_UI_URL") or tracking_uri(execution))
