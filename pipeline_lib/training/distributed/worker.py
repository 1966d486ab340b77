"""One process of a distributed training, started by `agent.py`."""

import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.training.distributed import watchdog
from pipeline_lib.training.distributed.failures import process_name
from pipeline_lib.training.distributed.messages import (
    BATCH_TOKENS,
    BEGAN_AT,
    JOB,
    WRITTEN,
    StoreHandler,
    connect_store,
    flush,
    report_error,
    send,
)
from pipeline_lib.training.distributed.shared_checkpoints import SharedCheckpoints
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.out_of_memory import PassTooLarge
from pipeline_lib.util.cpu import thread_limits
from pipeline_lib.util.network import interface_towards
from pipeline_lib.util.signals import end_with_parent

if TYPE_CHECKING:
    from torch.distributed import TCPStore


def main(text: str) -> None:
    """Run the job in the launcher's store; reports an error, after which the agents end or restart all processes.

    Args:
        text: The address of the store, the process id of the agent, and this machine's folders, as JSON.
    """
    place = json.loads(text)
    _die_with(place["parent"])
    os.environ.update(thread_limits(int(os.environ["LOCAL_WORLD_SIZE"])))
    # otherwise torch prints a C++ stack when the launcher has ended
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if interface := interface_towards(place["endpoint"]):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)  # gloo's choice is by host name, which may not resolve
    store = connect_store(place["endpoint"])
    try:
        _train(store, place)
    except Exception as error:
        if isinstance(error, PassTooLarge):
            store.set(BATCH_TOKENS, str(error.batch_tokens))
        _end(store, error)


def _die_with(agent: int) -> None:
    """Let the kernel kill this process when its agent dies, since nothing else would."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != agent:  # the agent is already dead
        sys.exit(1)


def _end(store: "TCPStore", error: Exception) -> None:
    """Report an error and end this process."""
    try:
        report_error(store, process_name(_rank()), error)
    finally:
        os._exit(1)  # a regular exit could wait for processes that wait for this one


def _rank() -> int:
    return int(os.environ["RANK"])


def _train(store: "TCPStore", place: dict[str, Any]) -> None:
    from accelerate import PartialState

    from pipeline_lib.training.finetune import write_finetuned

    def end_hanging(seconds: float) -> None:
        _end(store, TimeoutError(f"no progress for {seconds:.0f} seconds"))

    _send_log(store)
    watching = watchdog.start(store, end_hanging)
    recipe = _own_recipe(store)
    inputs = Inputs(**{name: Path(path) for name, path in place["inputs"].items()})
    work, folder = Path(place["work"]), Path(place["folder"])
    if _rank():
        write_finetuned(recipe, inputs, work, lambda records, steps: None, folder)
    else:
        _empty(folder)
        write_finetuned(recipe, inputs, work, Reports(store), folder)
        store.set(WRITTEN, "")
        if recipe.execution.machines > 1:
            SharedCheckpoints(recipe.execution.store, work, PartialState()).clear()
    PartialState().wait_for_everyone()  # agents whose processes have ended could not take part in a restart
    watching.stop()
    flush(store)
    PartialState().destroy_process_group()


def _own_recipe(store: "TCPStore") -> Recipe:
    """Return the recipe of the job with the number of processes on this machine, and passes that fit into memory."""
    recipe = check(json.loads(store.get(JOB))["recipe"])
    execution = recipe.execution.model_copy(update={"processes": int(os.environ["LOCAL_WORLD_SIZE"])})
    training = recipe.training.model_copy(update={"batch_tokens": int(store.get(BATCH_TOKENS))})
    return recipe.model_copy(update={"execution": execution, "training": training})


def _send_log(store: "TCPStore") -> None:
    """Send this process's log lines to the launcher: all of rank 0, and the warnings of the others."""
    if _rank():
        level = logging.WARNING
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  mostly the same output as rank 0
    else:
        level = logging.NOTSET
        logging.getLogger("tunesmith").setLevel(logging.INFO)
    logging.getLogger().addHandler(StoreHandler(store, _rank(), level))
    logging.captureWarnings(True)


def _empty(folder: Path) -> None:
    """Remove partial results of an earlier attempt."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class Reports:
    """Sends the records of the history; the first ones, of the last checkpoint, tell where this attempt begins."""

    def __init__(self, store: "TCPStore"):
        self.store, self.begun = store, False

    def __call__(self, records: Sequence[dict[str, Any]], steps: int) -> None:
        """Send new records."""
        if not self.begun:
            self.begun = True
            step = records[-1]["step"] if records else 0
            self.store.set(BEGAN_AT, str(step))
            send(self.store, "attempt", step=step)
        send(self.store, "records", records=list(records), steps=steps)
