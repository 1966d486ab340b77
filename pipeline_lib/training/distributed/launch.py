"""Train in several processes on this machine, with torch's elastic launcher (which Accelerate's launcher uses too).

Workers are new processes (`worker.py`): forking is not safe once torch is loaded, or from a thread, as under Prefect.
Rank 0 sends its records and log lines through a FIFO, one JSON document per line.
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
JOB, CHANNEL = "job.json", "messages"
START = """
import sys
sys.path.insert(0, sys.argv[1])
from pipeline_lib.training.distributed import worker
worker.main(sys.argv[2])
"""
"""Program of a worker; the first argument is the folder that this process imported the package from."""


def launch_finetuned(recipe: Recipe, inputs: Inputs, work: Path, watch: Watch, folder: Path) -> None:
    """Run `write_finetuned` in `execution.processes` processes; raises the error of the first one that fails."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    with temporary_folder() as place:
        input_folders = {name: str(path) for name, path in inputs._asdict().items() if path}
        folders = {"inputs": input_folders, "work": str(work), "folder": str(folder)}
        job = {"recipe": recipe.model_dump(mode="json"), "launcher": os.getpid(), **folders}
        (place / JOB).write_text(json.dumps(job), encoding="utf-8")
        launcher = elastic_launch(_config(recipe.execution.processes, str(place)), sys.executable)
        try:
            with _forward_channel(place / CHANNEL, watch):
                launcher("-c", START, str(Path(__file__).parents[3]), str(place))
        except ChildFailedError as failed:
            error = _find_first_error(failed)
            raise error from error.__cause__  # with its own cause instead of the launcher's error


def _config(processes: int, place: str) -> "LaunchConfig":
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    launcher_log = logging.getLogger("torch.distributed.elastic")
    launcher_log.addHandler(logging.NullHandler())
    launcher_log.propagate = False  # a failure is reported once, by the error that is raised
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
        # a signal that nobody sends, so that Python's and Prefect's handlers stay; what they raise ends the workers
        signals_to_handle="SIGURG",
    )


@contextmanager
def _forward_channel(channel: Path, watch: Watch) -> Iterator[None]:
    """Forward the records and log lines from the channel; at the end wait until all are forwarded."""
    os.mkfifo(channel)
    keep_open = os.open(channel, os.O_RDWR)  # opening a FIFO blocks until the other side opens it too
    context = contextvars.copy_context()  # Prefect uses it to assign log lines to a run
    thread = threading.Thread(target=context.run, args=(_pass_on, channel, watch), name="ranks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(keep_open, b"\n")  # completes a line that a killed rank left unfinished
        os.close(keep_open)
        thread.join()


def _pass_on(channel: Path, watch: Watch) -> None:
    with channel.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                message: dict[str, Any] = json.loads(line)
            except ValueError:  # truncated because the rank was killed
                continue
            if "records" in message:
                watch(message["records"], message["steps"])
            else:
                logging.getLogger(message["logger"]).log(message["level"], "%s", message["line"])


def _failure_order(failure: Any) -> tuple[bool, bool, float]:
    """Return a sort key that puts the original failure first.

    Ranks with SIGTERM come last, as the launcher ends the remaining ranks with it. Ranks killed by other signals come
    before those that raised an error, and errors are ordered by time.
    """
    ended_by_launcher = failure.exitcode == -signal.SIGTERM
    return ended_by_launcher, failure.exitcode >= 0, failure.error_file_data.get("at", float("inf"))


def _find_first_error(failed: Any) -> Exception:
    """Return the error of the rank that failed first; the failures of the other ranks follow from it."""
    first = min(failed.failures.values(), key=_failure_order)
    report = first.error_file_data
    if "kind" not in report:  # killed before it could report
        how = f"was ended by {first.signal_name()}" if first.exitcode < 0 else f"exited with code {first.exitcode}"
        message = f"training process {first.local_rank} {how}; run again to continue from its last checkpoint"
        return RuntimeError(message)
    error = rebuild_error(report)
    if not isinstance(error, RecipeError):
        error.add_note(f"in training process {first.local_rank}:\n{report['traceback']}")
    return error
