"""Rerun what failed, on a real server with a real worker; minutes. `pytest tests/deployments/test_rerun.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tasks.states import CANCELLED

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]


def training_runs(running, name):
    """How the training runs of a recipe stand in MLflow."""
    client = MlflowClient(running.mlflow)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"attributes.run_name = '{name} training'")
    return [run.info.status for run in found]


def checkpoints(running, before):
    """The steps of the checkpoints that were not there before."""
    return {int(place.name.split("-")[1]) for place in running.checkpoints() - before}


def test_a_run_survives_a_killed_worker_process_a_defect_and_a_server_that_is_away(running, form_recipe):
    form_recipe["training"]["epochs"], form_recipe["execution"]["checkpoint_seconds"] = 150, 0.5
    form_recipe["name"] = "survivor"
    (running.planted / "evaluate").write_text("lasting")
    (running.planted / "publish").write_text("passing")
    before = running.checkpoints()
    run = running.start(running.planted_id, {"recipe": form_recipe})

    running.until(lambda: checkpoints(running, before), what="a checkpoint")
    running.child("prefect.engine").kill()  # the flow's process, in the middle of its training
    running.child("mlflow", "server").kill()
    running.ends(run, "Crashed")
    left = checkpoints(running, before)
    running.until(lambda: "mlflow exited and was restarted" in running.said, what="MLflow again")

    running.retry(run)
    checkpoint = running.until(lambda: checkpoints(running, before) - left, what="the next checkpoint")
    assert min(checkpoint) > max(left) > 0  # training went on, inside its epoch
    assert "planted: a defect" in running.ends(run, "Failed")["message"]
    tasks = running.tasks(run)
    assert {tasks[step]["state"]["name"] for step in ("encode", "prepare", "initialise")} == {"Reused"}
    assert tasks["evaluate"]["run_count"] == 1  # a defect is not tried again

    running.retry(run)
    running.ends(run, "Completed")
    # by itself, as nobody had answered; Prefect writes down what tasks did a little later
    running.until(lambda: running.tasks(run)["publish"]["run_count"] == 2, what="the publishing tried twice")
    assert running.tasks(run)["finetune"]["state"]["name"] == "Reused"
    assert training_runs(running, "survivor") == ["FINISHED"]
    shown = {"flow_run_id": {"any_": [run]}, "key": {"any_": ["scores-survivor"]}}
    (artifact,) = running.ask("/artifacts/filter", {"artifacts": shown})
    assert f"]({running.mlflow}/#/experiments/" in artifact["data"]
    assert "| accuracy |" in artifact["data"]


def test_a_cancelled_run_leaves_a_checkpoint_and_makes_room(running, form_recipe):
    form_recipe["training"]["epochs"], form_recipe["seed"], form_recipe["name"] = 4000, 8, "cancelled"
    before = running.checkpoints()
    run = running.start(running.planted_id, {"recipe": form_recipe})
    running.until(
        lambda: running.tasks(run).get("finetune", {}).get("state", {}).get("name") == "Running", what="training"
    )
    running.until(lambda: training_runs(running, "cancelled") == ["RUNNING"], what="its run in MLflow")
    running.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    running.ends(run, "Cancelled", seconds=30)
    assert checkpoints(running, before)
    assert training_runs(running, "cancelled") == ["KILLED"]
    shown = running.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
    ours = [line["message"] for line in shown if line["message"].startswith(("finetune", "run "))]
    assert any(re.match(r"finetune    stopped after step \d+, with a checkpoint", line) for line in ours), ours
    assert ours[-1] == f"run         {CANCELLED}"

    form_recipe["data"]["columns"]["label"] = "no such column"
    run = running.start(running.planted_id, {"recipe": form_recipe})
    assert "no such column" in running.ends(run, "Failed")["message"]
    running.until(
        lambda: running.tasks(run)["encode"]["state_type"] == "FAILED", what="its task, which Prefect writes later"
    )
    assert running.tasks(run)["encode"]["run_count"] == 1  # a mistake in a recipe is not tried again


def test_failures_are_notified_of_but_not_a_cancelled_run(running, webhook, form_recipe):
    form_recipe["name"], form_recipe["data"]["columns"]["label"] = "told-of", "no such column"
    run = running.start(running.planted_id, {"recipe": form_recipe})
    running.ends(run, "Failed")
    running.until(lambda: any("told-of: Failed." in text for text in webhook.messages), what="the message")
    (ours,) = {text for text in webhook.messages if text.startswith("told-of")}  # Prefect may tell the same twice
    assert "no such column" in ours
    assert f"{running.prefect}/" in ours
    refused = {"type": "COMPLETED", "name": "Refused", "message": 'worse "by" 0.1'}  # as a retraining's gate ends
    running.ask(f"/flow_runs/{run}/set_state", {"state": refused, "force": True})
    running.until(
        lambda: any('told-of: Refused. worse "by" 0.1' in text for text in webhook.messages), what="the refusal"
    )
    assert not [text for text in webhook.messages if text.startswith("cancelled: C")]


def test_whoever_gives_no_sign_of_life_will_be_called_crashed(running):
    everything = running.ask("/automations/filter")
    (automation,) = (
        automation for automation in everything if automation["actions"][0]["type"] == "change-flow-run-state"
    )
    assert automation["trigger"]["posture"] == "Proactive"
    assert automation["trigger"]["after"] == ["prefect.flow-run.heartbeat"]
    assert automation["actions"][0]["state"] == "CRASHED"
    ends = {"Completed", "Failed", "Cancelled", "Crashed", "Promoted", "Refused", "Blocked"}
    assert {f"prefect.flow-run.{name}" for name in ends} <= set(automation["trigger"]["expect"])
    # a terminal's runs and those of other projects give signs of life less often, so only ours are looked at
    assert automation["trigger"]["match_related"] == {"prefect.resource.id": ["prefect.tag.tunesmith"]}
    assert all(running.deployment(name)["tags"] == ["tunesmith"] for name in ("finetune", "retrain", "sweep", "score"))


def test_registering_again_updates_no_automation(running, webhook):
    """An update would make Prefect forget which runs have sent a heartbeat."""
    before = running.ask("/automations/filter")
    environment = {**os.environ, "PREFECT_API_URL": f"{running.prefect}/api", "TUNESMITH_NOTIFY": webhook.address}
    subprocess.run([sys.executable, "-m", "deployments.up.automations"], env=environment, cwd=ROOT, check=True)
    assert len(before) == 3
    assert running.ask("/automations/filter") == before
