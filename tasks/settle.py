"""A flow's hooks for a run that was cancelled or has crashed: MLflow learns of it, too."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.recipe.execution import Execution, tracking_uri
from pipeline_lib.recipe.loading import by_name
from pipeline_lib.store.remote import open_store
from pipeline_lib.tracking.run_note import notes
from pipeline_lib.tracking.throughput import IMPORTING

log = logging.getLogger("tunesmith")


def settled(flow: Any, flow_run: Any, state: Any) -> None:
    """`on_crashed` and `on_cancellation` of a flow: settle the runs in MLflow that its trainings could not settle.

    Often this runs in the worker, which has just killed the flow's process. It imports MLflow only where something is
    left to do; what does not work here, the next run does.
    """
    by = f"({flow_run.id})"
    for execution in _executions(flow_run.parameters):
        if "://" not in execution.store and not Path(execution.store).is_dir():
            continue
        if any(by in note.made_by for _, note in notes(open_store(execution.store).root)):
            with IMPORTING:
                from pipeline_lib.tracking.note_delivery import settle_notes

            for line in settle_notes(execution.store, tracking_uri(execution), by):
                log.info("%-11s %s", "mlflow", line)


def _executions(parameters: Mapping[str, Any]) -> Iterator[Execution]:
    """Where the recipes among a flow's parameters are carried out; a recipe is a document or the name of one."""
    for recipe in (parameters.get("recipe"), *parameters.get("recipes", [])):
        if isinstance(recipe, str):
            yield by_name(recipe, parameters.get("overrides") or []).execution
        elif isinstance(recipe, Mapping):
            yield Execution.model_validate(recipe.get("execution") or {})
