"""The library: every step of a fine-tuning run as a plain call. It never imports Prefect."""

import os

# Before MLflow is imported. Its thread that reports usage also breaks calls of other threads (KeyError in os.environ).
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
