"""Choose the task runner that `execution` names: processes or threads of this machine, Ray or Dask.

It is chosen when a flow runs rather than in its decorator, so that the same setting applies to the command line, the UI
and deployments.
"""

from importlib import import_module
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.util.process_pool import join_in


def task_runner(execution: Execution) -> TaskRunner[Any]:
    """Return a task runner that is not started yet.

    Raises:
        RecipeError: The runner's package is not installed.
    """
    workers, address = execution.workers, execution.cluster
    if execution.task_runner == "ray":
        ray = _import_integration("ray").RayTaskRunner
        return ray(address=address) if address else ray(init_kwargs={"num_cpus": workers})
    if execution.task_runner == "dask":
        dask, own = _import_integration("dask").DaskTaskRunner, {"n_workers": workers, "threads_per_worker": 1}
        return dask(address=address) if address else dask(cluster_kwargs=own)
    if execution.task_runner == "processes" and workers > 1:
        return ProcessPoolTaskRunner(workers, initializer=join_in, initargs=(workers,))
    return ThreadPoolTaskRunner(workers)  # also for a single worker, where a process would only add start-up time


def _import_integration(name: str) -> Any:
    try:
        return import_module(f"prefect_{name}")
    except ImportError as error:
        hint = f"Install it: pip install -c constraints.txt -e '.[{name}]'"
        raise RecipeError("execution.task_runner", name, f"needs prefect-{name} ({error})", hint) from None
