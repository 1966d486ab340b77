"""Flow runs stop by themselves where their worker cannot stop them. `pytest tests/deployments/test_guard.py`."""

import time
import zlib

import psutil
import pytest

pytestmark = pytest.mark.server


def engine(running):
    """The process of the one flow run that is going on."""
    return running.until(lambda: running.child("prefect.engine"), what="the flow's process")


def train(running, form_recipe, name, deployment="planted", **execution):
    form_recipe["training"]["epochs"], form_recipe["name"] = 4000, name
    form_recipe["seed"] = zlib.crc32(
        name.encode()
    )  # a training of its own, which no checkpoint of another test resumes
    form_recipe["execution"] |= {"checkpoint_seconds": 600, **execution}  # so that a checkpoint is one of the stop
    parameters = (
        {"recipe": form_recipe} if deployment == "planted" else {"recipes": [form_recipe], "settings": {"seeds": 2}}
    )
    at = running.planted_id if deployment == "planted" else running.deployment(deployment)["id"]
    before = set((running.folder / "artifacts" / "work").glob("*/measured.jsonl"))
    run = running.start(at, parameters)
    running.until(lambda: running.state(run)["type"] == "RUNNING", what="the run")
    running.until(lambda: set((running.folder / "artifacts" / "work").glob("*/measured.jsonl")) - before, 90, "steps")
    return run


def gone(processes, seconds):
    end = time.monotonic() + seconds
    _, alive = psutil.wait_procs(processes, timeout=max(0, end - time.monotonic()))
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("name", "deployment", "execution"),
    [
        ("hung-ranks", "planted", {"processes": 2}),
        ("hung-pool", "sweep", {"workers": 2}),
        ("hung-thread", "sweep", {"workers": 1}),
    ],
)
def test_a_cancelled_run_stops_although_its_worker_hangs(running, form_recipe, name, deployment, execution):
    run, before = train(running, form_recipe, name, deployment, **execution), running.checkpoints()
    process = engine(running)
    family, worker = [process, *process.children(recursive=True)], running.child("prefect", "worker")
    worker.suspend()
    try:
        began = time.monotonic()
        running.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        running.until(lambda: not gone(family, 0), 32, "the end of all processes")
        print(name, "gone after", round(time.monotonic() - began, 1))
        running.until(lambda: running.state(run)["type"] == "CANCELLED", 10, running.state(run))
        print(name, "cancelled after", round(time.monotonic() - began, 1), len(running.checkpoints() - before))
    finally:
        worker.resume()
    assert running.checkpoints() - before


def test_a_run_stops_with_a_checkpoint_when_its_worker_is_killed(running, form_recipe):
    worker = running.child("prefect", "worker")
    time.sleep(max(0, 31 - (time.time() - worker.create_time())))  # `up` takes an early end for a fault
    run, before = train(running, form_recipe, "orphan"), running.checkpoints()
    family = [process := engine(running), *process.children(recursive=True)]
    began = time.monotonic()
    worker.kill()
    running.ends(run, "Crashed", seconds=30)
    assert not gone(family, 10)
    print("crashed after", round(time.monotonic() - began, 1))
    assert running.checkpoints() - before
