"""Tasks: thin Prefect wrappers, each a name, retries and one call into pipeline_lib. No torch, no MLflow here."""

import logging

logging.getLogger("tunesmith").setLevel(logging.INFO)  # Prefect gives $PREFECT_LOGGING_EXTRA_LOGGERS no level
