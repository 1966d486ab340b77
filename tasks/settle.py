"""A flow hook that ends a cancelled or crashed run in MLflow as well."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.recipe.execution import Execution, tracking_uri
from pipeline_lib.recipe.loading import load_by_name
from pipeline_lib.store.remote import open_store
from pipeline_lib.tracking.run_note import notes
from pipeline_lib.tracking.throughput import IMPORTING

log = logging.getLogger("tunesmith")


def settle_runs(flow: Any, flow_run: Any, state: Any) -> None:
    """End the MLflow runs that the flow's trainings left open (`on_crashed` and `on_cancellation` of a flow).

    This often runs in the worker, which has just killed the flow's process. It imports MLflow only if there is
    something to do; runs that cannot be ended here are ended by the next run.
    """
    made_by = f"({flow_run.id})"
    for execution in _executions(flow_run.parameters):
        if "://" not in execution.store and not Path(execution.store).is_dir():
            continue
        if any(made_by in note.made_by for _, note in notes(open_store(execution.store).root)):
            with IMPORTING:
                from pipeline_lib.tracking.note_delivery import settle_notes

            for line in settle_notes(execution.store, tracking_uri(execution), made_by):
                log.info("%-11s %s", "mlflow", line)


def _executions(parameters: Mapping[str, Any]) -> Iterator[Execution]:
    """Yield the execution settings of the recipes in a flow's parameters: documents, or names of recipes."""
    for recipe in (parameters.get("recipe"), *parameters.get("recipes", [])):
        if isinstance(recipe, str):
            yield load_by_name(recipe, parameters.get("overrides") or []).execution
        elif isinstance(recipe, Mapping):
            yield Execution.model_validate(recipe.get("execution") or {})
