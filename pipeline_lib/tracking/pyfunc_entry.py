"""The script that MLflow runs to load a served model (models from code)."""

from mlflow.models import set_model

from pipeline_lib.tracking.pyfunc import ServedModel

set_model(ServedModel())
