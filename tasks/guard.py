"""Stop a flow run that nobody wants any more, also where the worker that started it is gone.

Prefect's worker starts every flow run as a child process, and the worker alone listens for cancellations. If it is
killed, the child goes on and hears of nothing. So the process of a flow run watches for itself: whether the process
that started it is still there, and what state Prefect has for its flow run. If either says stop, it sends itself
SIGTERM, which ends a training after its current step with a checkpoint. What has not ended after a while is killed; the
last checkpoint is then at most `execution.checkpoint_seconds` old.

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
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed

from pipeline_lib.util.signals import allow_trainings, ask_trainings_to_stop

log = logging.getLogger("tunesmith")
P = ParamSpec("P")
R = TypeVar("R")

LOOK = 3.0
"""Seconds between two questions to Prefect."""
WORKER_ACTS = 8.0
"""Seconds for a living worker to end a cancelled run itself, which it does within a second if all is well."""
GRACE = 16.0
"""Seconds after SIGTERM until the process is killed: with the two above, a cancelled run is gone within 30 s."""
UNDISTURBED = {StateType.RUNNING, StateType.PAUSED}


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Watch over a flow's function while it runs: `@flow(...)`, below it `@guarded`."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        if flow_run.id is None:  # called as a plain function
            return function(*args, **kwargs)
        with _guard(UUID(flow_run.id)):
            return function(*args, **kwargs)

    return inside


class Guard:
    """Watches over one process and the flow runs in it: a flow may call others."""

    def __init__(self) -> None:
        self.over, self.stopping = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        # set by a worker, or by what runs in its container; a command line's parent may leave, as nohup's does
        self.parent = os.getppid() if "PREFECT__FLOW_RUN_ID" in os.environ else None
        self.runs: list[UUID] = []
        self.attempts: dict[UUID, int] = {}

    def start(self) -> None:
        """Watch from threads of their own: a question to Prefect may take long."""
        allow_trainings()
        if self.parent is not None:
            self._in_thread(self._watch_parent)
        if PREFECT_API_URL.value():  # an embedded server ends with this process, and has no page to cancel on
            self._in_thread(self._watch_state)

    def close(self, undisturbed: bool) -> None:
        """Leave off; where the flow was ended from outside, see that its process ends, too."""
        self.over.set()
        if self.parent is not None and not undisturbed:
            ask_trainings_to_stop()  # those in threads, which the signal did not reach
            self._in_thread(self._kill_later)

    def _in_thread(self, work: Callable[[], None]) -> None:
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
                    with suppress(Exception):  # away, busy, or restarting: asked again
                        if reason := self._unwanted(client.read_flow_run(run_id)):
                            self._leave_to_worker()
                            self._stop(reason)
                            return

    def _unwanted(self, run: FlowRun) -> str | None:
        """Why a flow run is not to go on; None where it is."""
        attempt = self.attempts.setdefault(run.id, run.run_count)
        if run.state is None or (run.state.type in UNDISTURBED and run.run_count == attempt):
            return None
        if run.run_count != attempt:
            return "the run was started again elsewhere"
        return f"the run's state is {run.state.name}"

    def _leave_to_worker(self) -> None:
        """A worker that lives hears of it, too, and its way to cancel a run is the tidier one."""
        if self.parent is not None and os.getppid() == self.parent:
            self.over.wait(WORKER_ACTS)

    def _stop(self, reason: str) -> None:
        with self.lock:
            if self.over.is_set() or self.stopping.is_set():
                return
            self.stopping.set()
        log.warning("%-11s %s: stopping, a training with a checkpoint", "guard", reason)
        ask_trainings_to_stop()
        for child in multiprocessing.active_children():
            child.terminate()
        os.kill(os.getpid(), signal.SIGTERM)
        if self.parent is not None:
            self._kill_later()

    def _kill_later(self) -> None:
        time.sleep(GRACE)
        telling = threading.Thread(target=_settle, args=(self.runs[:1],), daemon=True)
        telling.start()
        telling.join(timeout=3)
        _kill_family()


_current: Guard | None = None


@contextmanager
def _guard(run_id: UUID) -> Iterator[None]:
    global _current
    if _current is not None:
        with _added(_current, run_id):
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
def _added(guard: Guard, run_id: UUID) -> Iterator[None]:
    """A flow inside a flow; one that is called as a plain function is the same flow run."""
    new = run_id not in guard.runs
    if new:
        guard.runs.append(run_id)
    try:
        yield
    finally:
        if new:
            guard.runs.remove(run_id)


def _write_nowhere() -> None:
    """Let go of the pipes that the worker read: rich ends the thread that writes to a broken one, with SystemExit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _settle(runs: list[UUID]) -> None:
    """Say for a process that is about to be killed how its run ended, if nobody has."""
    with get_client(sync_client=True) as client:
        for run_id in runs:
            state = client.read_flow_run(run_id).state
            if state is None or state.is_final():
                continue
            ended: State = Crashed(message="Killed: it did not stop in time. Retry goes on from the last checkpoint.")
            if state.type == StateType.CANCELLING:
                ended = Cancelled(message="Cancelled, and killed: it did not stop in time.")
            client.set_flow_run_state(run_id, ended, force=True)


def _kill_family() -> None:
    import psutil

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)
