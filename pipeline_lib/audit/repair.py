"""`tunesmith audit --repair`: settle runs that a kill has left RUNNING, in MLflow and in Prefect."""

from collections.abc import Iterator
from contextlib import suppress

from pipeline_lib.audit import flow_states
from pipeline_lib.tracking.circumstances import flow_run
from pipeline_lib.tracking.find import Finder
from pipeline_lib.tracking.held import Held, Told
from pipeline_lib.tracking.left_runs import is_left, settle_models, settle_training
from pipeline_lib.tracking.runs import BY, PARENT


def repair(finder: Finder, held: Held, store: str | None = None) -> list[str]:
    """What was done about a training's runs whose processes are gone, a sentence for each; nothing where none is."""
    left = [run for run in held.runs if is_left(run)]
    lines = settle_training(finder, held, store)
    flows = [line for run in left if lines for line in _settle_flow(run)]
    return [*lines, *flows, *settle_models(held)]


def _settle_flow(run: Told) -> Iterator[str]:
    """Tell Prefect of a flow run that was at work on a dead run, and is RUNNING there as well."""
    if (flow := flow_run(run.tags.get(BY, ""))) is None or PARENT in run.tags:  # the run around the others has said it
        return
    with suppress(flow_states.Unanswered):  # which the audit says
        if flow_states.state(flow) == "RUNNING":
            flow_states.crash(flow)
            yield f"flow run {flow.name} ({flow.id}) was left RUNNING: CRASHED now"
