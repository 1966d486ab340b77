"""Predict the rows of Parquet files with a trained model from the registry or the store."""

from pipeline_lib.scoring.request import Scoring
from pipeline_lib.scoring.score import Scored
from tasks import scoring
from tasks.flow import pipeline_flow
from tasks.names import run_name


@pipeline_flow("score", flow_run_name=run_name)
def score(request: Scoring) -> list[Scored]:
    """Find the files, load the model, and predict file by file."""
    files = scoring.files(request)
    model = scoring.model(request)
    return [scoring.score(request, model, file) for file in files]
