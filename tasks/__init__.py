"""Tasks: thin Prefect wrappers, each a name, retries and one call into pipeline_lib. No torch, no MLflow here."""
