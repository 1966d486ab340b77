"""Stop a cancelled or superseded flow run, even if the worker that started it has died.

Prefect's worker starts every flow run as a child process, and only the worker listens for cancellations. If the worker
is killed, the child keeps running and never learns that it was cancelled. The process of a flow run therefore watches
two things itself: whether its parent process still exists, and the state of its flow run in Prefect. When either tells
it to stop, it sends itself SIGTERM, which ends training after the current step with a checkpoint. If it is still
running after a grace period, it is killed; the last checkpoint is then at most `execution.checkpoint_seconds` old.

An unreachable Prefect API is not a reason to stop.
"""

import contextvars
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled, Crashed

from pipeline_lib.util.signals import allow_trainings, ask_trainings_to_stop
from tasks.own_server import lasting_server
from tasks.states import CANCELLED, CRASHED, log_last

log = logging.getLogger("tunesmith")
P = ParamSpec("P")
R = TypeVar("R")

LOOK = 3.0
"""Seconds between two polls of Prefect's API."""
WORKER_ACTS = 8.0
"""Seconds that a live worker gets to cancel the run itself; normally it takes less than one."""
GRACE = 16.0
"""Seconds between SIGTERM and SIGKILL. With the two above, a cancelled run is gone within 30 s."""
KILLED = f"Killed, because it did not stop within {GRACE:.0f} s."
UNDISTURBED = {StateType.RUNNING, StateType.PAUSED}


def guard_flow(function: Callable[P, R]) -> Callable[P, R]:
    """Guard a flow's function while it runs; goes below `@flow(...)`."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        if flow_run.id is None:  # called as a plain function
            return function(*args, **kwargs)
        with _guard(UUID(flow_run.id)):
            return function(*args, **kwargs)

    return inside


class Guard:
    """Watches one process and the flow runs in it; there are several when a flow calls another."""

    def __init__(self) -> None:
        self.over, self.stopping = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        # The variable is set by a worker or in a worker's container. Without it the run was started from a command
        # line, whose parent may exit legitimately (nohup).
        self.parent = os.getppid() if "PREFECT__FLOW_RUN_ID" in os.environ else None
        self.runs: list[UUID] = []
        self.attempts: dict[UUID, int] = {}

    def start(self) -> None:
        """Start the watching threads; separate ones, because a call to Prefect may block."""
        allow_trainings()
        if self.parent is not None:
            self._start_thread(self._watch_parent)
        if lasting_server():  # an embedded server ends with this process and offers no way to cancel
            self._start_thread(self._watch_state)

    def close(self, undisturbed: bool) -> None:
        """Stop watching; if the flow was interrupted from outside, make sure that its process ends as well."""
        self.over.set()
        if self.parent is not None and not undisturbed:
            ask_trainings_to_stop()  # trainings in threads: the signal only reached the main thread
            self._start_thread(self._kill_later)

    def _start_thread(self, work: Callable[[], None]) -> None:
        context = contextvars.copy_context()  # so that log lines reach the flow run's log
        threading.Thread(target=context.run, args=(work,), name="guard", daemon=True).start()

    def _watch_parent(self) -> None:
        while not self.over.wait(0.2):
            if os.getppid() != self.parent:
                _write_nowhere()
                self._stop("the worker that started this run is gone")
                return

    def _watch_state(self) -> None:
        with get_client(sync_client=True) as client:
            while not self.over.wait(LOOK):
                for run_id in list(self.runs):
                    with suppress(Exception):  # API down, busy or restarting: try again at the next poll
                        if reason := self._find_reason_to_stop(client.read_flow_run(run_id)):
                            self._leave_to_worker()
                            self._stop(reason)
                            return

    def _find_reason_to_stop(self, run: FlowRun) -> str | None:
        """Return why a flow run should stop, or None if it should continue."""
        attempt = self.attempts.setdefault(run.id, run.run_count)
        if run.state is None:
            return None
        if run.run_count != attempt:
            return "the run was started again elsewhere"
        if run.state.type in UNDISTURBED:
            return None
        return f"the run's state is {run.state.name}"

    def _leave_to_worker(self) -> None:
        """Give a live worker time to cancel the run first, which is the cleaner way."""
        if self.parent is not None and os.getppid() == self.parent:
            self.over.wait(WORKER_ACTS)

    def _stop(self, reason: str) -> None:
        with self.lock:
            if self.over.is_set() or self.stopping.is_set():
                return
            self.stopping.set()
        log.warning("%-11s %s: stopping the run; a training saves a checkpoint first", "guard", reason)
        ask_trainings_to_stop()
        for child in multiprocessing.active_children():
            child.terminate()
        os.kill(os.getpid(), signal.SIGTERM)
        if self.parent is not None:
            self._kill_later()

    def _kill_later(self) -> None:
        time.sleep(GRACE)
        # In a thread, so that an API that does not answer cannot delay the kill.
        report = threading.Thread(target=_settle, args=(self.runs[:1],), daemon=True)
        report.start()
        report.join(timeout=3)
        _kill_family()


_current: Guard | None = None


@contextmanager
def _guard(run_id: UUID) -> Iterator[None]:
    global _current
    if _current is not None:
        with _watch_nested_run(_current, run_id):
            yield
        return
    guard = _current = Guard()
    guard.runs.append(run_id)
    guard.start()
    undisturbed = False
    try:
        yield
        undisturbed = True
    except Exception:
        undisturbed = True
        raise
    finally:
        _current = None
        guard.close(undisturbed)


@contextmanager
def _watch_nested_run(guard: Guard, run_id: UUID) -> Iterator[None]:
    """Watch a nested flow run, too; a flow called as a plain function shares its caller's run."""
    new = run_id not in guard.runs
    if new:
        guard.runs.append(run_id)
    try:
        yield
    finally:
        if new:
            guard.runs.remove(run_id)


def _write_nowhere() -> None:
    """Redirect stdout and stderr to /dev/null.

    The dead worker held the reading end of these pipes, and rich raises SystemExit in a thread that writes to a broken
    pipe.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _settle(runs: list[UUID]) -> None:
    """Set the final state of runs whose process is about to be killed, unless they already have one."""
    with get_client(sync_client=True) as client:
        for run_id in runs:
            run = client.read_flow_run(run_id)
            state = run.state
            if state is None or state.is_final():
                continue
            ended: State = Crashed(message=f"{KILLED} {CRASHED}")
            if state.type == StateType.CANCELLING:
                ended = Cancelled(message=f"{KILLED} {CANCELLED}")
            client.set_flow_run_state(run_id, ended, force=True)
            log_last(run, str(ended.message))


def _kill_family() -> None:
    import psutil

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)
