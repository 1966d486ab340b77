"""Who runs tasks side by side, as `execution` says: processes or threads of this machine, Ray or Dask.

Chosen when a flow runs and not where it is written, so that command line, UI and deployments have the same setting.
"""

from importlib import import_module
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.util.process_pool import join_in


def task_runner(execution: Execution) -> TaskRunner[Any]:
    """A runner that is not started yet; raises RecipeError where its package is missing."""
    workers, address = execution.workers, execution.cluster
    if execution.task_runner == "ray":
        ray = _imported("ray").RayTaskRunner
        return ray(address=address) if address else ray(init_kwargs={"num_cpus": workers})
    if execution.task_runner == "dask":
        dask, own = _imported("dask").DaskTaskRunner, {"n_workers": workers, "threads_per_worker": 1}
        return dask(address=address) if address else dask(cluster_kwargs=own)
    if execution.task_runner == "processes" and workers > 1:
        return ProcessPoolTaskRunner(workers, initializer=join_in, initargs=(workers,))
    return ThreadPoolTaskRunner(workers)  # for one worker a process would only cost its start


def _imported(name: str) -> Any:
    try:
        return import_module(f"prefect_{name}")
    except ImportError as error:
        hint = f"Install it: pip install -c constraints.txt -e '.[{name}]'"
        raise RecipeError("execution.task_runner", name, f"needs prefect-{name} ({error})", hint) from None
