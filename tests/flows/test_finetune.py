"""The flow in Prefect's own test server: what its tasks tell, and a retry. `pytest tests/flows`."""

import asyncio
import sys
from importlib.metadata import version

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from flows.finetune import finetune
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.preflight.prefect_api import check_prefect
from pipeline_lib.recipe.schema import check


def task_states():
    """Name -> (state's name, message) of the tasks of the last flow run."""

    async def read():
        async with get_client() as client:
            flow_runs = await client.read_flow_runs()
            last = max(flow_runs, key=lambda run: run.expected_start_time)
            found = await client.read_task_runs()
            return last, [run for run in found if run.flow_run_id == last.id]

    last, found = asyncio.run(read())
    return last, {run.task_key.split(".")[-1].split("-")[0]: (run.state.name, run.state.message) for run in found}


def names_of_states():
    """Name -> state's name of the tasks of the last flow run."""
    return {name: state for name, (state, _) in task_states()[1].items()}


STEPS = ("prepare", "initialise", "checks", "finetune", "evaluate")


def test_the_tasks_say_what_was_made_and_what_was_reused(recipe, eventually):
    outcome = finetune(recipe)
    every = dict.fromkeys(("encode", "shard", *STEPS, "publish"), "Completed")
    assert eventually(names_of_states, every) == every
    flow_run, _ = task_states()
    assert flow_run.name == "moods"
    again = finetune(recipe)
    reused = dict.fromkeys(("encode", *STEPS), "Reused") | {"publish": "Completed"}
    assert eventually(names_of_states, reused) == reused
    _, states = task_states()
    assert states["encode"] == ("Reused", "1 of 1 files reused")
    for name in STEPS:
        assert f"by flow run moods ({flow_run.id})" in states[name][1]
    assert again.published == outcome.published
    assert again.scores.digest == outcome.scores.digest


def test_a_failed_step_fails_the_flow_and_a_rerun_reuses_what_was_done(recipe, eventually, monkeypatch):
    def fail(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(steps, "evaluate", fail)
    with pytest.raises(RuntimeError, match="planted"):
        finetune(recipe)
    monkeypatch.undo()
    finetune(recipe)
    states = dict.fromkeys(("encode", *STEPS), "Reused") | dict.fromkeys(("evaluate", "publish"), "Completed")
    assert eventually(names_of_states, states) == states


def test_what_is_missing_fails_the_flow_before_any_other_step(document, eventually, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pymysql", None)  # as if the driver were not installed
    document["execution"]["tracking_uri"] = "mysql+pymysql://me:plantedPassword@127.0.0.1/runs"
    with pytest.raises(RecipeError, match="needs the database driver pymysql"):
        finetune(check(document))
    assert eventually(names_of_states, {"encode": "Failed"}) == {"encode": "Failed"}
    assert not list((tmp_path / "store").glob("steps/*/*/manifest.json"))


def test_doctor_finds_a_real_prefect_server_and_that_it_has_no_worker(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    server, workers = check_prefect()
    assert (server.status, workers.status) == ("ok", "warning")
    assert f"Prefect {version('prefect')}" in server.found
    assert "There is no work pool 'tunesmith'" in workers.found
