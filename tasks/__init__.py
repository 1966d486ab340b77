"""Prefect tasks: thin wrappers that add a name and retries to one call into pipeline_lib; no torch, no MLflow."""

import logging

logging.getLogger("tunesmith").setLevel(logging.INFO)  # Prefect gives $PREFECT_LOGGING_EXTRA_LOGGERS no level
