"""Answer Parquet files with a trained model: a registered one, or one in the store."""

from prefect import flow

from pipeline_lib.scoring.request import Scoring
from pipeline_lib.scoring.score import Scored
from tasks import scoring
from tasks.guard import guarded
from tasks.mistakes import in_our_words
from tasks.told import cancelled


@flow(name="score", validate_parameters=False, persist_result=False, on_crashed=[cancelled])
@in_our_words
@guarded
def score(request: Scoring) -> list[Scored]:
    """Find the files and the model, and answer file by file."""
    files = scoring.files(request)
    model = scoring.model(request)
    return [scoring.score(request, model, file) for file in files]
