"""Train in several processes, on this machine or several, with torch's elastic agent.

Processes are new ones (`worker.py`): forking is not safe once torch is loaded, or from a thread, as under Prefect. The
launcher hosts a store (`messages.py`) with the job, in which the agents of all machines meet and to which the processes
report. Its own machine has rank 0, which writes the checkpoints and the results.
"""

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.distributed.forwarding import Forwarder
from pipeline_lib.training.distributed.messages import JOB, host_store
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.loop import Watch
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from torch.distributed import TCPStore

LOOPBACK = "127.0.0.1"


def launch_finetuned(recipe: Recipe, inputs: Inputs, work: Path, watch: Watch, folder: Path) -> None:
    """Run `write_finetuned` in `execution.processes` processes.

    If a process dies, all are started again from the last checkpoint. Raises the error of the first one that fails if a
    restart would meet it again, or after too many attempts.
    """
    input_folders = {name: str(path) for name, path in inputs._asdict().items() if path}
    folders = {"inputs": input_folders, "work": str(work), "folder": str(folder)}
    job = {"id": uuid.uuid4().hex, "recipe": recipe.model_dump(mode="json"), "machines": 1}
    store = host_store(LOOPBACK, 0)
    store.set(JOB, json.dumps(job))
    forwarder = Forwarder(watch)
    if not _run(store, job, recipe.execution.processes, folders, forwarder):
        error = forwarder.first_error()
        raise error from error.__cause__  # with its own cause instead of the launcher's error


def _run(store: "TCPStore", job: dict[str, Any], processes: int, folders: dict[str, Any], forwarder: Forwarder) -> bool:
    from torch.distributed.elastic.rendezvous import RendezvousClosedError

    from pipeline_lib.training.distributed.agent import run_agent

    endpoint = f"{store.host}:{store.port}"
    with temporary_folder() as logs_folder, forwarder.forwarding(store, endpoint):
        try:
            return run_agent(store, endpoint, store.host, job, processes, folders, logs_folder)
        except RendezvousClosedError:  # another machine has ended the training
            return False
