"""Take part in trainings that another machine starts (`tunesmith worker`)."""

import json
import logging
import os
import platform
import shutil
import socket
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.recipe.execution import parse_endpoint
from pipeline_lib.recipe.schema import check
from pipeline_lib.training.distributed.messages import BEGAN_AT, JOB, connect_store
from pipeline_lib.util.redaction import first_line
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from torch.distributed import TCPStore

log = logging.getLogger("tunesmith")
PAUSE = 1.0
"""Seconds between two looks for a training."""


def join_trainings(endpoint: str, processes: int | None, once: bool) -> bool:
    """Join each training that is launched at HOST:PORT; returns only if `once`, whether the training succeeded.

    Args:
        endpoint: The `execution.rendezvous` of the trainings.
        processes: Number of processes on this machine; None for `execution.processes` of the recipe.
        once: Whether to end after one training.
    """
    host, port = parse_endpoint(endpoint, "--rendezvous")
    # otherwise torch prints a C++ stack when a launcher has ended
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    ended: set[str] = set()
    while True:
        log.info("%-11s waiting for a training at %s", "worker", endpoint)
        store, job = _wait_for_job(host, port, endpoint, ended)
        succeeded = _take_part(store, endpoint, job, processes)
        if succeeded is None:  # connection lost: the training may continue without this machine until it is back
            time.sleep(PAUSE)
            continue
        ended.add(job["id"])
        log.info("%-11s %s", "worker", "the training is done" if succeeded else "the training failed")
        if once:
            return succeeded


def _wait_for_job(host: str, port: int, endpoint: str, ended: set[str]) -> "tuple[TCPStore, dict[str, Any]]":
    """Wait until a launcher listens there with a job that has not ended yet."""
    while True:
        # a launcher that has ended, or is just starting, cannot be read
        with suppress(OSError, RuntimeError):
            socket.create_connection((host, port), timeout=10).close()  # torch's client would log each failure
            store = connect_store(endpoint)
            while True:
                job = json.loads(store.get(JOB))
                if job["id"] not in ended:
                    return store, job
                time.sleep(PAUSE)
        time.sleep(PAUSE)


def _take_part(store: "TCPStore", endpoint: str, job: dict[str, Any], processes: int | None) -> bool | None:
    """Run this machine's processes of a training; returns whether they succeeded, None if the launcher was lost."""
    from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError

    from pipeline_lib.training.distributed.agent import give_up

    try:
        return _run(store, endpoint, job, processes)
    except ServiceUnavailable as error:
        log.warning("%-11s %s", "worker", error)
        return None
    except RecipeError as error:
        error.add_note(f"on the machine {platform.node()}, which tried to join")
        if not store.check([BEGAN_AT]):  # otherwise the training may continue without this machine
            give_up(store, endpoint, job, error)
        raise
    except RendezvousClosedError:  # the training has ended elsewhere
        return False
    except (RendezvousError, RuntimeError) as error:  # as torch reports a lost connection
        log.warning("%-11s the connection to %s was lost (%s)", "worker", endpoint, first_line(error))
        return None


def _run(store: "TCPStore", endpoint: str, job: dict[str, Any], processes: int | None) -> bool:
    from pipeline_lib.store.remote import RemoteStore
    from pipeline_lib.training.distributed.agent import run_agent
    from pipeline_lib.training.distributed.job import fetch_inputs, refuse_other_code

    recipe = check(job["recipe"])  # by this machine's path policy
    step = refuse_other_code(recipe, job)
    artifacts = RemoteStore(recipe.execution.store)
    inputs = fetch_inputs(artifacts, job)
    work, count = artifacts.work(step), processes or recipe.execution.processes
    log.info("%-11s joining %s with %d processes", "worker", recipe.name, count)
    with temporary_folder() as place:
        results, logs_folder = place / "results", place / "logs"
        results.mkdir()
        folders = {"inputs": inputs.as_strings(), "work": str(work), "folder": str(results)}
        succeeded = run_agent(store, endpoint, _name(), job, count, folders, logs_folder)
    if succeeded:
        shutil.rmtree(work, ignore_errors=True)
    return succeeded


def _name() -> str:
    """Return this machine's name in the rendezvous, unique and behind all addresses, so that it does not get rank 0."""
    return f"~{platform.node()}-{uuid.uuid4().hex[:8]}"
