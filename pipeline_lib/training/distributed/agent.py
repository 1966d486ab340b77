"""The elastic agent of one machine: starts the machine's training processes, and restarts all when one dies.

It is torch's own (`torchrun` runs the same one), used directly because it must report how a process died, and stop as
soon as a restart would meet the same error.
"""

import json
import logging
import os
import platform
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters, dynamic_rendezvous
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from pipeline_lib.training.distributed.failures import process_name
from pipeline_lib.training.distributed.messages import BATCH_TOKENS, BEGAN_AT, GIVEN_UP, WRITTEN, report_error, send

if TYPE_CHECKING:
    from torch.distributed import TCPStore

# torch names events, which nobody records, by `inspect.stack()`. That searches all modules, which takes up to 0.2 s of
# processor time, several times per change of the shared state. On a busy machine the heartbeats of the other machine,
# which change it too, came first again and again, and no rendezvous ended.
dynamic_rendezvous.get_method_name = lambda depth=2: "rendezvous"

MAX_RESTARTS = 3
"""Restarts in a row that begin from the same checkpoint with passes of the same size; then the training fails."""
JOIN_SECONDS = 3600
"""How long to wait until all machines have joined, at the beginning and after a failure."""
HEARTBEAT_SECONDS, HEARTBEATS = 5, 3
"""A machine that missed so many heartbeats is lost. They are compared by the machines' clocks."""
STOP_SECONDS = 3
"""How long a process has to end on SIGTERM after another one failed. It has nothing left to do, and one that is stopped
or waits in the device's driver does not end."""
START = """
import sys
sys.path.insert(0, sys.argv[1])
from pipeline_lib.training.distributed import worker
worker.main(sys.argv[2])
"""
"""Program of a worker; the first argument is the folder that this process imported the package from."""


class Agent(LocalElasticAgent):
    """torch's agent, with reports to the launcher."""

    def __init__(self, spec: WorkerSpec, logs_folder: str, store: "TCPStore"):
        super().__init__(spec, DefaultLogsSpecs(log_dir=logs_folder))
        self.launcher_store = store
        self.progress = (0, 0)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        """Start the processes; once one fails, the others end within `STOP_SECONDS` (torch's own limit is 30 s)."""
        started = super()._start_workers(worker_group)
        if processes := self._pcontext:
            close = processes.close

            def close_soon(death_sig: signal.Signals | None = None, timeout: int = STOP_SECONDS) -> None:
                close(death_sig, timeout)

            processes.close = close_soon  # type: ignore[method-assign]  # torch calls it without a limit
        return started

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        """Called before a restart, but not when the training is interrupted and the processes write a checkpoint."""
        self._shutdown(timeout=STOP_SECONDS)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """Called several times per second."""
        result = super()._monitor_workers(worker_group)
        if result.is_failed():
            if self.launcher_store.check([WRITTEN]):
                return RunResult(WorkerState.SUCCEEDED, {worker.global_rank: None for worker in worker_group.workers})
            for rank, failure in result.failures.items():
                send(self.launcher_store, "exit", who=process_name(rank), code=failure.exitcode)
            self._allow_restarts()
        if self.launcher_store.check([GIVEN_UP]):
            self._remaining_restarts = 0
            return result if result.is_failed() else RunResult(WorkerState.FAILED)
        return result

    def _allow_restarts(self) -> None:
        """Allow all restarts again if the attempt that failed began later than the one that failed before it.

        An attempt that ran out of memory counts as progress, too, because the next one needs less.
        """
        progress = (self.launcher_store.add(BEGAN_AT, 0), -int(self.launcher_store.get(BATCH_TOKENS)))
        if progress > self.progress:
            self._remaining_restarts = self._worker_group.spec.max_restarts
        self.progress = progress


def run_agent(
    store: "TCPStore",
    endpoint: str,
    name: str,
    job: dict[str, Any],
    processes: int,
    folders: dict[str, Any],
    logs_folder: Path,
) -> bool:
    """Run this machine's processes of a training to the end; returns whether they succeeded.

    Args:
        store: A connection to the launcher's store.
        endpoint: Its address.
        name: Name of this machine in the rendezvous. The first one in alphabetical order has rank 0, whose processes
            reach it by this name.
        job: The job in the store.
        processes: Number of processes on this machine.
        folders: Folders on this machine, passed on to the processes.
        logs_folder: Folder for torch's own files.
    """
    place = {"endpoint": endpoint, "parent": os.getpid(), **folders}
    handler = _rendezvous(endpoint, name, job)
    spec = WorkerSpec(
        role="tunesmith",
        local_world_size=processes,
        entrypoint=sys.executable,
        args=("-c", START, str(Path(__file__).parents[3]), json.dumps(place)),
        rdzv_handler=handler,
        max_restarts=MAX_RESTARTS,
    )
    # a signal that nobody sends, so that Python's and Prefect's handlers stay; what they raise ends the processes
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGURG"
    # a store of its own for each attempt: agents that count restarts differently would read different keys of a shared
    # one and wait for each other (pytorch#135712)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    succeeded = not Agent(spec, str(logs_folder), store).run().is_failed()
    handler.shutdown()  # closes it for all, so not after an interruption: this machine may come back
    return succeeded


def give_up(store: "TCPStore", endpoint: str, job: dict[str, Any], error: Exception) -> None:
    """End a training with an error that keeps this machine from joining it."""
    report_error(store, f"machine {platform.node()}", error)
    _rendezvous(endpoint, "~", job).shutdown()


def _rendezvous(endpoint: str, name: str, job: dict[str, Any]) -> RendezvousHandler:
    launcher_log = logging.getLogger("torch.distributed.elastic")
    launcher_log.addHandler(logging.NullHandler())
    launcher_log.propagate = False  # a failure is reported once, by the error that is raised
    return get_rendezvous_handler(
        RendezvousParameters(
            backend="c10d",
            endpoint=endpoint,
            run_id=job["id"],
            min_nodes=job["machines"],
            max_nodes=job["machines"],
            local_addr=name,
            is_host=False,
            join_timeout=JOIN_SECONDS,
            keep_alive_interval=HEARTBEAT_SECONDS,
            keep_alive_max_attempt=HEARTBEATS,
        )
    )
