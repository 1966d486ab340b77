"""Batch scoring as Prefect tasks: one for the model, then one for each file."""

from pathlib import Path
from typing import Any

from prefect.states import Completed

from pipeline_lib.scoring import score as scoring
from pipeline_lib.scoring.request import Scoring
from pipeline_lib.scoring.score import Scored, ScoringModel
from tasks.states import current_flow_run
from tasks.steps import step


@step
def model(request: Scoring) -> ScoringModel:
    """Load the model, from the store or from MLflow."""
    return scoring.fetch_model(request, current_flow_run())


@step
def score(request: Scoring, found: ScoringModel, file: Path) -> Scored:
    """Predict the rows of one file."""
    done = scoring.score(request, found, file, current_flow_run())
    state: Any = Completed(
        name="Reused" if done.reused == done.shards else "Completed", message=done.message, data=done
    )
    return state


files = scoring.files
