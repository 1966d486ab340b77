"""deployments/compose.yaml at work, hurt, and healed; minutes. `make compose-test`."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from itertools import product

import pytest
from stack import ACCOUNT, KILL_WORKER, MLFLOW, PREFECT, SECRETS, until

pytestmark = pytest.mark.server

SERVICES = ("postgres", "s3", "prefect", "mlflow", "worker")
LONG = ["training.epochs=250"]
"""Values of a training that takes a minute or more: time enough to kill something."""


def fine_tune(stack, *overrides):
    return stack.start("finetune", recipe="moods", overrides=list(overrides))


def training_runs(stack, seed):
    """The training runs in MLflow of the recipe with this seed."""
    condition = "tags.`mlflow.runName` = 'moods training'"
    experiment = stack.mlflow("experiments/get-by-name?experiment_name=tunesmith")["experiment"]["experiment_id"]
    found = stack.mlflow("runs/search", {"experiment_ids": [experiment], "filter": condition}).get("runs", [])
    parameters = ({p["key"]: p["value"] for p in run["data"]["params"]} for run in found)
    return [run for run, known in zip(found, parameters, strict=True) if known.get("seed") == str(seed)]


def curve(stack, run, metric):
    """The steps of a metric, in the order of their arrival."""
    query = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key={metric}&max_results=20000"
    return [point["step"] for point in stack.mlflow(query)["metrics"]]


def test_every_service_is_healthy_bounded_and_restarted(stack):
    for service in SERVICES:
        container = stack.inspect(service)
        assert container["State"]["Health"]["Status"] == "healthy", service
        assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped", service
        assert container["HostConfig"]["Memory"] and container["HostConfig"]["NanoCpus"], service
    for service in ("prefect", "mlflow", "worker", "register", "buckets"):
        assert stack.inspect(service)["Config"]["User"] == "1001:1001"
    assert stack.inspect("register")["State"]["ExitCode"] == 0


def test_both_pages_are_served(stack):
    for address in (PREFECT, MLFLOW):
        with urllib.request.urlopen(urllib.request.Request(address, headers=ACCOUNT), timeout=30) as page:
            assert "<script" in page.read().decode()


def test_both_servers_ask_for_an_account(stack):
    for address in (f"{PREFECT}/api/admin/version", f"{MLFLOW}/", f"{MLFLOW}/api/2.0/mlflow/experiments/get"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=30)
        assert refused.value.code == 401, address


def test_both_servers_refuse_other_names_and_pages(stack):
    paths = (f"{PREFECT}/api/admin/version", f"{MLFLOW}/api/2.0/mlflow/experiments/get?experiment_id=0")
    for address, header in product(paths, ({"Host": "evil.example"}, {"Origin": "https://evil.example"})):
        request = urllib.request.Request(address, headers={**ACCOUNT, **header})
        if address.startswith(MLFLOW) and "Origin" in header:
            request.method = "POST"  # what pages only read, the browser keeps from them
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 403, (address, header)


def test_no_secret_is_in_the_image_or_on_a_command_line(stack):
    for service in (*SERVICES, "register", "buckets"):
        container = stack.inspect(service)
        command = json.dumps([container["Path"], container["Args"]])
        assert not [name for name, secret in SECRETS.items() if json.dumps(secret)[1:-1] in command]
    run = ["docker", "run", "--rm", "--entrypoint", "sh", "tunesmith:0.1.0", "-c"]
    looked = "find / -xdev \\( -name .git -o -name '*.db' -o -name artifacts -o -name '.env*' \\) -not -path '/proc/*'"
    found = subprocess.run([*run, f"{looked} 2>/dev/null; env"], capture_output=True, text=True, check=False).stdout
    lines = [line for line in found.splitlines() if "/site-packages/" not in line and "/usr/" not in line]
    assert not [line for line in lines if line.startswith("/")], lines
    assert "PASSWORD" not in found and "SECRET" not in found


def test_a_fine_tuning_ends_in_mlflow_the_bucket_and_postgresql(stack, figures):
    began = time.monotonic()
    run = fine_tune(stack, "seed=1")
    stack.ends(run, "Completed")
    figures["seconds of the first fine-tuning"] = round(time.monotonic() - began)
    (training,) = training_runs(stack, 1)
    assert training["info"]["status"] == "FINISHED"
    assert curve(stack, training, "train/loss")
    (manifest,) = stack.manifests("store", "finetune")
    assert any(name.endswith(".safetensors") for name in manifest["files"])
    listed = "import s3fs; print(s3fs.S3FileSystem().find('mlflow'))"
    assert "model.safetensors" in stack.inside("worker", "python", "-c", listed) or "MLmodel" in stack.inside(
        "worker", "python", "-c", listed
    )
    assert stack.sql("prefect", f"SELECT state_type FROM flow_run WHERE id = '{run}'") == ["COMPLETED"]
    named = f"SELECT status FROM runs WHERE run_uuid = '{training['info']['run_id']}'"
    assert stack.sql("mlflow", named) == ["FINISHED"]
    shown = {"flow_run_id": {"any_": [run]}, "key": {"any_": ["scores-moods"]}}
    (artifact,) = stack.ask("/artifacts/filter", {"artifacts": shown})
    assert f"]({MLFLOW}/#/experiments/" in artifact["data"]  # the address that a browser can reach


def test_retraining_promotes_the_first_model(stack):
    run = stack.start("retrain-by-name", recipe="moods", overrides=["seed=1"])
    stack.ends(run, "Promoted")
    version = stack.mlflow("registered-models/alias?name=moods&alias=champion")["model_version"]
    assert version["version"] == "1"


def test_a_killed_worker_leaves_a_crashed_run_and_a_retry_the_same_bytes(stack, figures):
    undisturbed = fine_tune(stack, "seed=4", *LONG, "execution.store=s3://tunesmith/undisturbed")
    stack.ends(undisturbed, "Completed")
    (whole,) = stack.manifests("undisturbed", "finetune")

    before = stack.checkpoints()
    run = fine_tune(stack, "seed=4", *LONG)
    until(lambda: stack.checkpoints() - before, 120, "a checkpoint")
    began = time.monotonic()
    stack.compose("exec", "-T", "worker", "python", "-c", KILL_WORKER, check=False)
    left = until(lambda: stack.inspect("worker")["RestartCount"] > 0 and stack.checkpoints(), 60, "the restart")
    stack.ends(run, "Crashed", 240)
    figures["seconds from the kill to Crashed"] = round(time.monotonic() - began)

    stack.retry(run)
    until(lambda: stack.run(run)["state"]["type"] == "RUNNING", 120, "the retry")
    stack.ends(run, "Completed")
    assert stack.steps(run)["encode"] == "Reused"
    manifests = [
        manifest for manifest in stack.manifests("store", "finetune") if manifest["fingerprint"] == whole["fingerprint"]
    ]
    assert manifests[0]["files"] == whole["files"]
    figures["bytes after the kill"] = f"equal, {len(whole['files'])} files; checkpoints at the kill: {sorted(left)}"
    assert [record["info"]["status"] for record in training_runs(stack, 4)] == ["FINISHED"]


def test_mlflow_and_postgresql_may_go_in_turn_and_nothing_is_lost(stack):
    known = stack.sql("prefect", "SELECT count(*) FROM flow_run")
    (undisturbed,) = training_runs(stack, 4)
    before = stack.checkpoints()
    run = fine_tune(stack, "seed=5", *LONG)
    until(lambda: stack.checkpoints() - before, 120, "a checkpoint")
    stack.outage("mlflow", 10)
    stack.outage("postgres", 10)
    stack.ends(run, "Completed")
    (training,) = training_runs(stack, 5)
    assert training["info"]["status"] == "FINISHED"
    steps = curve(stack, training, "train/loss")
    assert len(steps) == len(set(steps)) == len(curve(stack, undisturbed, "train/loss"))
    assert int(stack.sql("prefect", "SELECT count(*) FROM flow_run")[0]) > int(known[0])


def test_a_second_worker_with_an_empty_cache_reuses_every_step(stack):
    stack.ends(fine_tune(stack, "seed=1"), "Completed")
    stack.compose("stop", "worker")
    stack.up("second")
    try:
        run = fine_tune(stack, "seed=1")
        stack.ends(run, "Completed")
        steps = stack.steps(run)
        assert {steps[name] for name in ("encode", "prepare", "initialise", "finetune", "evaluate")} == {"Reused"}
    finally:
        stack.compose("rm", "--stop", "--force", "second")
        stack.up("worker")


def test_registering_again_keeps_schedules_and_automations(stack):
    deployment, automations = stack.deployment("retrain-by-name"), stack.ask("/automations/filter")
    weekly = {"schedule": {"cron": "0 5 * * 1", "timezone": "Europe/Berlin"}, "active": True}
    stack.ask(f"/deployments/{deployment['id']}/schedules", [weekly])
    stack.compose("up", "--no-deps", "--force-recreate", "register")
    (schedule,) = stack.deployment("retrain-by-name")["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 5 * * 1", "Europe/Berlin")
    assert schedule["active"]
    assert stack.ask("/automations/filter") == automations  # an update would forget the runs that are watched
