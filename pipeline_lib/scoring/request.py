"""What a batch prediction is asked for: the form in Prefect's UI and the command line alike."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline_lib.data.settings import Columns
from pipeline_lib.data.sources.base import Paths
from pipeline_lib.recipe.execution import default_store
from pipeline_lib.util.section import Reach, Section


class Scoring(Section):
    """A trained model's answers to the rows of Parquet files."""

    model: Annotated[str, Field(min_length=1), Reach.MODEL]
    """A model in MLflow (models:/NAME@champion, models:/NAME/3, models:/ID), or the folder of a trained model."""
    data: Paths
    """Parquet: a file, glob or folder, or a list of them; relative to the working directory."""
    out: Annotated[str, Field(min_length=1), Reach.FOLDER]
    """The folder to write: for each file one of the same name, with its columns and the answers."""
    columns: Columns = Columns()
    """Which column is what; the answers' columns are not read."""
    shard_rows: PositiveInt = 10_000
    """Rows that are answered at once and kept: a killed prediction loses at most those."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: a GPU if there is one."""
    store: Annotated[str, Reach.STORE] = Field(default_factory=default_store)
    """The artifact store that keeps models and answers: a folder, or a URL that machines share."""
    tracking_uri: Annotated[str | None, Reach.TRACKING] = None
    """MLflow's address; empty: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working directory."""
