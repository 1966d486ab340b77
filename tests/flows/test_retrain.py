"""The retrain flow in Prefect's own test server: states and artifacts. `pytest tests/flows/test_retrain.py`."""

import asyncio

import pytest
from prefect.client.orchestration import get_client

from flows.retrain import retrain
from pipeline_lib.recipe.schema import check
from pipeline_lib.retrain.gate import Gate

pytestmark = pytest.mark.server


def last():
    """The last retrain run's state, the names of its tasks, and its artifact's description and page."""

    async def read():
        async with get_client() as client:
            runs = [run for run in await client.read_flow_runs() if not run.parent_task_run_id]
            newest = max(runs, key=lambda run: run.start_time)
            tasks = [run for run in await client.read_task_runs() if run.flow_run_id == newest.id]
            artifacts = [artifact for artifact in await client.read_artifacts() if artifact.flow_run_id == newest.id]
            return newest.state, {run.name.rsplit("-", 1)[0] for run in tasks}, artifacts

    state, tasks, (artifact,) = asyncio.run(read())
    return state, tasks, artifact


def test_a_model_is_promoted_nothing_is_done_and_a_worse_one_is_refused(document, eventually, tmp_path):
    document["name"] = f"flow-{tmp_path.name}"
    recipe = check(document)
    assert retrain(recipe, Gate()).version == 1
    state, _, artifact = last()
    assert (state.type.value, state.name) == ("COMPLETED", "Promoted")
    assert eventually(lambda: {"ask", "encode", "prepare", "look", "conclude"} <= last()[1], True)
    assert artifact.description == f"{recipe.name}: promoted"
    assert retrain(recipe, Gate()).verdict == "nothing to do"
    state, *_ = last()
    assert (state.name, state.message) == (
        "Nothing to do",
        "every step is reused, and the champion is this model (version 1)",
    )
    assert eventually(lambda: last()[1], {"ask"}) == {"ask"}
    document["training"] |= {"epochs": 1, "learning_rate": 1e-9}
    assert retrain(check(document), Gate(floors=[{"metric": "accuracy", "bound": 0.95}])).verdict == "refused"
    state, _, artifact = last()
    assert (state.type.value, state.name) == ("COMPLETED", "Refused")
    assert f"# {recipe.name}, version 2: refused against version 1" in artifact.data
    assert "| accuracy.bound | -" in artifact.data
