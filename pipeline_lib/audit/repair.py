"""`tunesmith audit --repair`: end runs that a killed process left RUNNING, in MLflow and in Prefect."""

from collections.abc import Iterator
from contextlib import suppress

from pipeline_lib.audit import prefect_api
from pipeline_lib.tracking.environment import flow_run
from pipeline_lib.tracking.left_runs import is_left, settle_models, settle_training
from pipeline_lib.tracking.records import TrainingRecord, TrainingRecords
from pipeline_lib.tracking.runs import BY, PARENT
from pipeline_lib.tracking.search import TrainingSearch


def repair(finder: TrainingSearch, held: TrainingRecords, store: str | None = None) -> list[str]:
    """End a training's runs whose processes are gone; return a line for each."""
    left = [run for run in held.runs if is_left(run)]
    lines = settle_training(finder, held, store)
    flows = [line for run in left if lines for line in _settle_flow(run)]
    return [*lines, *flows, *settle_models(held)]


def _settle_flow(run: TrainingRecord) -> Iterator[str]:
    """Set the flow run of a dead run to CRASHED if it is still RUNNING in Prefect."""
    if (flow := flow_run(run.tags.get(BY, ""))) is None or PARENT in run.tags:  # handled with the parent run
        return
    with suppress(prefect_api.PrefectUnavailable):  # reported by the audit
        if prefect_api.state(flow) == "RUNNING":
            prefect_api.crash(flow)
            yield f"flow run {flow.name} ({flow.id}) was left RUNNING; now CRASHED"
