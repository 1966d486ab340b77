"""`tunesmith up`: start Prefect, MLflow and a worker on one machine, and stop them together."""
