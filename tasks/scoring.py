"""Batch prediction as Prefect tasks: the model, then a task run for each file."""

from pathlib import Path
from typing import Any

from prefect.states import Completed

from pipeline_lib.scoring import score as scoring
from pipeline_lib.scoring.request import Scoring
from pipeline_lib.scoring.score import Model, Scored
from tasks.states import current_flow_run
from tasks.steps import step


@step
def model(request: Scoring) -> Model:
    """Fetch the model."""
    return scoring.fetch(request, current_flow_run())


@step
def score(request: Scoring, found: Model, file: Path) -> Scored:
    """Answer one file."""
    done = scoring.score(request, found, file, current_flow_run())
    state: Any = Completed(
        name="Reused" if done.reused == done.shards else "Completed", message=done.message, data=done
    )
    return state


files = scoring.files
