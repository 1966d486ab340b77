"""What a Prefect server is told: the work pool and its limit, the deployments, and the automations."""

import subprocess
import sys
from pathlib import Path

from deployments.up.automations import automate
from pipeline_lib.errors import RecipeError

POOL = "tunesmith"
LIST = Path(__file__).parents[1] / "prefect.yaml"


def register(folder: Path, runs: int, notify: str, moved: bool = False) -> None:
    """Make or renew the work pool, the automations and the deployments; raises RecipeError where Prefect takes none.

    With `moved`, a pool that works in another folder is this folder's, from before it was moved.
    """
    _work_pool(folder, runs, moved)
    automate(notify)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(LIST)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RecipeError("deployments", str(LIST), "Prefect does not take them", (done.stdout + done.stderr)[-2000:])


def _work_pool(folder: Path, runs: int, moved: bool) -> None:
    """A pool of processes in `folder`; raises RecipeError where a server of others has one that works in another."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["working_dir"]["default"] = str(folder)
    with get_client(sync_client=True) as client:
        try:
            there = client.read_work_pool(POOL).base_job_template
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=POOL, type="process", base_job_template=template, concurrency_limit=runs)
            )
            return
        other = there.get("variables", {}).get("properties", {}).get("working_dir", {}).get("default")
        if other != str(folder) and not moved:
            mend = (
                f"Start `tunesmith up` there, or here with other ports; or delete it: prefect work-pool delete {POOL}"
            )
            raise RecipeError("work pool", POOL, f"works in {other or 'another place'}", mend)
        # not created with `overwrite`: that tries to create it first, which PostgreSQL logs as an error
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template, concurrency_limit=runs))


def works(name: str) -> bool:
    """Whether the pool has a worker of this name that is online."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.request(
            "POST", "/work_pools/{work_pool_name}/workers/filter", path_params={"work_pool_name": POOL}, json={}
        )
        return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in found.json())
