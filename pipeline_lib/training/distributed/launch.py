"""Train in several processes, on this machine or several, with torch's elastic agent.

Processes are new ones (`worker.py`): forking is not safe once torch is loaded, or from a thread, as under Prefect. The
launcher hosts a store (`messages.py`) with the job, in which the agents of all machines meet and to which the processes
report. Its own machine has rank 0, which writes the checkpoints and the results.
"""

import json
import logging
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.recipe.execution import Execution, parse_endpoint
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Step
from pipeline_lib.training.distributed.forwarding import Forwarder
from pipeline_lib.training.distributed.messages import BATCH_TOKENS, JOB, endpoint_of, host_store
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.loop import Watch
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from torch.distributed import TCPStore

log = logging.getLogger("tunesmith")
LOOPBACK = "127.0.0.1"


def launch_finetuned(
    recipe: Recipe, inputs: Inputs, work: Path, watch: Watch, folder: Path, step: Step | None = None
) -> None:
    """Run `write_finetuned` in `execution.processes` processes on each of `execution.machines` machines.

    If a process dies, all are started again from the last checkpoint. Raises the error of the first one that fails if a
    restart would meet it again, or after too many attempts. The arguments are those of `write_finetuned`, and:

    Args:
        recipe: The recipe.
        inputs: Folders to read from.
        work: Folder of the checkpoints.
        watch: Receives new records of the history.
        folder: Empty folder to write to.
        step: The step that this training is, which other machines compare with theirs; needed if there are any.
    """
    job = _describe(recipe, inputs, step)
    store = _host(recipe.execution)
    store.set(BATCH_TOKENS, str(recipe.training.batch_tokens))
    store.set(JOB, json.dumps(job))
    folders = {"inputs": inputs.as_strings(), "work": str(work), "folder": str(folder)}
    forwarder = Forwarder(watch)
    if not _run(store, job, recipe.execution, folders, forwarder):
        error = forwarder.first_error()
        raise error from error.__cause__  # with its own cause instead of the launcher's error


def _describe(recipe: Recipe, inputs: Inputs, step: Step | None) -> dict[str, Any]:
    """Return the job, with what other machines need if there are any; MLflow's password is nothing that they need."""
    from pipeline_lib.training.distributed.job import describe_inputs

    execution = recipe.execution.model_copy(update={"tracking_uri": None})
    document = recipe.model_copy(update={"execution": execution}).model_dump(mode="json")
    job = {"id": uuid.uuid4().hex, "recipe": document, "machines": execution.machines}
    if execution.machines > 1 and step:
        job |= {"step": step.identity(), **describe_inputs(inputs)}
    return job


def _host(execution: Execution) -> "TCPStore":
    """Start the store: on the loopback interface if no other machine has to reach it."""
    if execution.machines == 1 or execution.rendezvous is None:
        return host_store(LOOPBACK, 0)
    try:
        return host_store(*parse_endpoint(execution.rendezvous))
    except OSError as error:
        hint = "Give an address of this machine and a free port"
        problem = f"cannot be opened ({error.strerror or error})"
        raise RecipeError("execution.rendezvous", execution.rendezvous, problem, hint) from None


def _run(
    store: "TCPStore", job: dict[str, Any], execution: Execution, folders: dict[str, Any], forwarder: Forwarder
) -> bool:
    from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousTimeoutError

    from pipeline_lib.training.distributed.agent import JOIN_SECONDS, run_agent

    endpoint, others = endpoint_of(store), execution.machines - 1
    if others:
        command = f"tunesmith worker --rendezvous {endpoint}"
        log.info("%-11s waiting for %d more machines: run `%s` on each", "finetune", others, command)
    with temporary_folder() as logs_folder, forwarder.forward_messages(store, endpoint):
        try:
            return run_agent(store, endpoint, store.host, job, execution.processes, folders, logs_folder)
        except RendezvousClosedError:  # another machine has ended the training
            return False
        except RendezvousTimeoutError:
            problem = f"was joined by fewer than {others} other machines within {JOIN_SECONDS // 60} minutes"
            hint = f"Run `tunesmith worker --rendezvous {endpoint}` on each"
            raise ServiceUnavailable("execution.rendezvous", endpoint, problem, hint) from None
