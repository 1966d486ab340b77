"""The settings of a batch prediction, for the form in Prefect's UI and for the command line."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipeline_lib.data.settings import Columns
from pipeline_lib.data.sources.base import Paths
from pipeline_lib.recipe.execution import default_store
from pipeline_lib.util.section import Reach, Section


class Scoring(Section):
    """Predict the rows of Parquet files with a trained model."""

    model: Annotated[str, Field(min_length=1), Reach.MODEL]
    """A model in MLflow (models:/NAME@champion, models:/NAME/3, models:/ID), or the folder of a trained model."""
    data: Paths
    """Parquet files to predict: a file, glob or folder, or a list of them; relative to the working directory."""
    out: Annotated[str, Field(min_length=1), Reach.FOLDER]
    """The output folder: one file for each input file, with the same name, its columns and the predictions."""
    columns: Columns = Columns()
    """Names of the input columns; columns with gold answers are not read."""
    shard_rows: PositiveInt = 10_000
    """Rows per shard; shards are stored one by one, so that an interrupted prediction loses at most one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: a GPU if there is one."""
    store: Annotated[str, Reach.STORE] = Field(default_factory=default_store)
    """The artifact store for models and predictions: a folder, or the URL of a store shared by machines."""
    tracking_uri: Annotated[str | None, Reach.TRACKING] = None
    """MLflow's tracking URI; empty: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the working directory."""
