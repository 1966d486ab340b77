"""Train in several processes on this machine, started by torch's elastic launcher, on which Accelerate's own stands.

Workers are new processes (`worker.py`): to fork one that has loaded torch, from what may be a thread of Prefect's, is
not safe. What rank 0 has to tell comes through a FIFO, one JSON document a line.
"""

import contextvars
import json
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.distributed.remote_errors import rebuild_error
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.loop import Watch
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

log = logging.getLogger("tunesmith")
JOB, CHANNEL = "job.json", "told"
START = """
import sys
sys.path.insert(0, sys.argv[1])
from pipeline_lib.training.distributed import worker
worker.main(sys.argv[2])
"""
"""Runs a worker of this very package, wherever this process has found it."""


def launch_finetuned(recipe: Recipe, inputs: Inputs, work: Path, watch: Watch, folder: Path) -> None:
    """`write_finetuned` in `execution.processes` processes; raises what the first of them to fail has raised."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    with temporary_folder() as place:
        read = {name: str(path) for name, path in inputs._asdict().items() if path}
        folders = {"inputs": read, "work": str(work), "folder": str(folder)}
        job = {"recipe": recipe.model_dump(mode="json"), "launcher": os.getpid(), **folders}
        (place / JOB).write_text(json.dumps(job), encoding="utf-8")
        launcher = elastic_launch(_config(recipe.execution.processes, str(place)), sys.executable)
        try:
            with _listening(place / CHANNEL, watch):
                launcher("-c", START, str(Path(__file__).parents[3]), str(place))
        except ChildFailedError as failed:
            error = _first(failed)
            raise error from error.__cause__  # what it came from there, and not the launcher's own error


def _config(processes: int, place: str) -> "LaunchConfig":
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    theirs = logging.getLogger("torch.distributed.elastic")
    theirs.addHandler(logging.NullHandler())
    theirs.propagate = False  # what fails is told once, by the error that is raised
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=place),
        # nobody sends this one: Python's and Prefect's handlers stay, and what they raise here ends the workers
        signals_to_handle="SIGURG",
    )


@contextmanager
def _listening(channel: Path, watch: Watch) -> Iterator[None]:
    """Pass on the records and log lines that come through the channel, until all are passed on."""
    os.mkfifo(channel)
    held = os.open(channel, os.O_RDWR)  # so that neither side waits for the other one to open it
    inside = contextvars.copy_context()  # by which Prefect knows whose log lines these are
    thread = threading.Thread(target=inside.run, args=(_pass_on, channel, watch), name="ranks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(held, b"\n")  # also ends a line that a killed rank has left unfinished
        os.close(held)
        thread.join()


def _pass_on(channel: Path, watch: Watch) -> None:
    with channel.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                told: dict[str, Any] = json.loads(line)
            except ValueError:  # cut off by a kill
                continue
            if "records" in told:
                watch(told["records"], told["steps"])
            else:
                logging.getLogger(told["logger"]).log(told["level"], "%s", told["line"])


def _place(failure: Any) -> tuple[bool, bool, float]:
    """By SIGTERM the launcher itself ends the ranks that go on."""
    ended = failure.exitcode == -signal.SIGTERM
    return ended, failure.exitcode >= 0, failure.error_file_data.get("at", float("inf"))


def _first(failed: Any) -> Exception:
    """The error that was first: of a rank killed from outside, else the one told first; the others' follow from it."""
    first = min(failed.failures.values(), key=_place)
    told = first.error_file_data
    if "kind" not in told:
        how = f"was ended by {first.signal_name()}" if first.exitcode < 0 else f"ended with code {first.exitcode}"
        return RuntimeError(f"training process {first.local_rank} {how}; its checkpoint stands, run again to go on")
    error = rebuild_error(told)
    if not isinstance(error, RecipeError):
        error.add_note(f"in training process {first.local_rank}:\n{told['traceback']}")
    return error
