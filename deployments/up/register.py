"""Register the work pool, the deployments and the automations with a Prefect server.

In compose, where TUNESMITH_RUNS runs may go on at once in the working directory: python -m deployments.up.register
In Kubernetes each run is a job: python -m deployments.up.register --job-template kubernetes/job-template.json
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from deployments.up import automations
from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError
from pipeline_lib.preflight.prefect_api import POOL

LIST = Path(__file__).parents[1] / "prefect.yaml"


def register(folder: Path, runs: int, notify: str, moved: bool = False, job_template: Path | None = None) -> None:
    """Create or update the work pool, the automations and the deployments.

    Args:
        folder: Working directory of the pool's processes; not used for Kubernetes.
        runs: Maximum number of concurrent runs.
        notify: A webhook's address, or an empty string.
        moved: Whether a pool with another working directory belongs to this folder, which was moved.
        job_template: The base job template of a Kubernetes pool; without one, the pool starts processes.

    Raises:
        RecipeError: Prefect rejects the deployments, or the pool belongs to another folder.
    """
    if job_template:
        _kubernetes_pool(job_template, runs)
    else:
        _process_pool(folder, runs, moved)
    automations.automate(notify)
    schedules = _schedules()
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(LIST)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RecipeError("deployments", str(LIST), "Prefect rejects them", (done.stdout + done.stderr)[-2000:])
    _restore(schedules)


def _schedules() -> dict[str, list[dict[str, Any]]]:
    """Return the schedules on the server by their deployment's id.

    Registering a deployment again replaces its schedules by those of prefect.yaml: what people have added or
    switched on in the UI would be lost at every start.
    """
    from prefect.client.orchestration import get_client

    fields = {"schedule", "active", "max_scheduled_runs", "parameters", "slug"}
    found = {}
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            schedules = [schedule.model_dump(mode="json", include=fields) for schedule in deployment.schedules]
            found[str(deployment.id)] = schedules
    return found


def _restore(schedules: dict[str, list[dict[str, Any]]]) -> None:
    """Give each deployment that was there before the schedules that it had then."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for deployment, before in schedules.items():
            client.request("PATCH", "/deployments/{id}", path_params={"id": deployment}, json={"schedules": before})


def _process_pool(folder: Path, runs: int, moved: bool) -> None:
    """Create or update the pool of processes; raises RecipeError if the server's pool belongs to another folder."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["working_dir"]["default"] = str(folder)
    with get_client(sync_client=True) as client:
        try:
            existing = client.read_work_pool(POOL).base_job_template
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=POOL, type="process", base_job_template=template, concurrency_limit=runs)
            )
            return
        other = existing.get("variables", {}).get("properties", {}).get("working_dir", {}).get("default")
        if other != str(folder) and not moved:
            hint = (
                f"Start `tunesmith up` there, or here with other ports; or delete it: prefect work-pool delete {POOL}"
            )
            raise RecipeError("work pool", POOL, f"works in {other or 'another folder'}", hint)
        # not created with `overwrite`: that tries to create it first, which PostgreSQL logs as an error
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template, concurrency_limit=runs))


def _kubernetes_pool(job_template: Path, runs: int) -> None:
    """Create or update the pool of Kubernetes jobs from a template."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    template = json.loads(job_template.read_text(encoding="utf-8"))
    pool = WorkPoolCreate(name=POOL, type="kubernetes", base_job_template=template, concurrency_limit=runs)
    with get_client(sync_client=True) as client:
        client.create_work_pool(pool, overwrite=True)


def has_online_worker(name: str) -> bool:
    """Whether the pool has a worker of this name that is online."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.request(
            "POST", "/work_pools/{work_pool_name}/workers/filter", path_params={"work_pool_name": POOL}, json={}
        )
        return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in found.json())


def main(job_template: Path | None = typer.Option(None, exists=True, dir_okay=False)) -> None:
    """Register everything with the server at PREFECT_API_URL.

    Runs work in this process's working directory, or, given the template of a Kubernetes job, in a pod each.
    """
    notify = os.environ.get(automations.NOTIFY, "")
    try:
        automations.check(notify)
        register(Path.cwd(), int(os.environ.get("TUNESMITH_RUNS", "1")), notify, job_template=job_template)
    except RecipeError as error:
        fail(error)


if __name__ == "__main__":
    typer.run(main)
