"""The sweep flow in Prefect's own test server, side by side. `pytest tests/flows/test_sweep.py`."""

import asyncio
import json

import pytest
from prefect.client.orchestration import get_client

from flows.sweep import sweep
from pipeline_lib.recipe.schema import check
from pipeline_lib.sweep.trials import Sweep

pytestmark = pytest.mark.server

RATES = "training.learning_rate=[5e-3, 4e-3, 3e-3, 1e-9]"


def trials():
    """The state's name of each trial of the last flow run, by the task run's name."""
    return {name: state for name, state in last()[0].items() if name.startswith("moods")}


def last():
    """The state's name of each task of the last flow run, by the task run's name, and its artifacts."""

    async def read():
        async with get_client() as client:
            newest = max(await client.read_flow_runs(), key=lambda run: run.start_time)
            tasks = [run for run in await client.read_task_runs() if run.flow_run_id == newest.id]
            artifacts = [artifact for artifact in await client.read_artifacts() if artifact.flow_run_id == newest.id]
            return {run.name: run.state.name for run in tasks}, artifacts

    return asyncio.run(read())


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_each_run_is_a_task_run_and_a_rerun_does_only_what_is_new(document, eventually, kind):
    document["execution"] |= {"workers": 2, "task_runner": kind}
    found = sweep([check(document)], Sweep(vary=["training.epochs=[1, 2]"]))
    completed = dict.fromkeys(("moods-epochs-1", "moods-epochs-2"), "Completed")
    assert eventually(trials, completed) == completed
    _, artifacts = last()
    assert {artifact.key: artifact.data for artifact in artifacts if artifact.type == "progress"} == {
        "training-moods-epochs-1": 100.0,
        "training-moods-epochs-2": 100.0,
    }
    (page,) = [artifact for artifact in artifacts if artifact.type == "markdown"]
    assert page.data.startswith("# accuracy on 12 test rows")
    again = sweep([check(document)], Sweep(vary=["training.epochs=[1, 2, 3]"]))
    states = dict.fromkeys(("moods-epochs-1", "moods-epochs-2"), "Reused") | {"moods-epochs-3": "Completed"}
    assert eventually(trials, states) == states
    assert again.fingerprint != found.fingerprint


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_hopeless_trial_ends_early_and_is_no_failure(document, eventually, kind):
    document["training"]["epochs"] = 3
    document["execution"] |= {"workers": 2, "task_runner": kind}
    sweep([check(document)], Sweep(vary=[RATES.replace(", 1e-9", "")]))  # three that the store has: any order will do
    found = sweep([check(document)], Sweep(vary=[RATES], pruner="median"))
    name = "moods-learning_rate-1e-9"
    assert eventually(lambda: trials().get(name), "Stopped early") == "Stopped early"
    assert [*json.loads((found.folder / "comparison.json").read_text())["stopped"]] == [name]
