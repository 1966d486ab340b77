"""Check that a run can use MLflow: its address, its database and its artifact location."""

from pathlib import Path
from urllib.parse import urlsplit

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.preflight.artifact_location import check_artifact_location
from pipeline_lib.preflight.mlflow_database import check_server_database, check_sqlite
from pipeline_lib.preflight.mlflow_rest import check_server
from pipeline_lib.preflight.result import CheckResult, check_warning, failed_check
from pipeline_lib.recipe.execution import Execution, tracking_uri
from pipeline_lib.tracking.availability import DATABASE_PORTS, WAIT
from pipeline_lib.tracking.driver import check_driver
from pipeline_lib.util.redaction import redact_url

FIELD = "execution.tracking_uri"
NAME = "MLflow"


def check_mlflow(execution: Execution) -> list[CheckResult]:
    """Check MLflow's server or database, then its artifact location; stop at the first check that fails."""
    uri = tracking_uri(execution)
    try:
        scheme = urlsplit(uri).scheme.partition("+")[0]
    except ValueError as error:
        raise RecipeError(FIELD, uri, f"is not a valid address ({error})", "Check its brackets and its port") from None
    try:
        return _check(execution, uri, scheme)
    except ServiceUnavailable as outage:
        return [outage_result(execution, outage)]


def outage_result(execution: Execution, outage: ServiceUnavailable) -> CheckResult:
    """Return the result if MLflow does not answer; `when_mlflow_is_down` decides whether that stops a run."""
    if execution.when_mlflow_is_down == "fail":
        return failed_check(NAME, outage)
    shown = redact_url(tracking_uri(execution))
    consequence = f"A training waits up to {WAIT:.0f} s for it, then starts, and is published when MLflow is back"
    return check_warning(NAME, f"{shown}: {outage.problem}.", f"Start it. {consequence}.")


def too_slow(execution: Execution) -> CheckResult:
    """Return the result if MLflow takes too long to answer."""
    uri = tracking_uri(execution)
    return outage_result(execution, ServiceUnavailable(FIELD, uri, "does not answer in time", "Check the server"))


def _check(execution: Execution, uri: str, scheme: str) -> list[CheckResult]:
    if scheme in ("http", "https"):
        server, experiment = check_server(uri, execution.experiment)
        return [server, check_artifact_location(experiment.artifact_location, server=True)]
    if scheme == "sqlite":
        database, experiment = check_sqlite(uri, execution.experiment)
    elif scheme in DATABASE_PORTS:
        check_driver(uri)
        database, experiment = check_server_database(uri, execution.experiment)
    else:  # a folder, Databricks or a plugin: only MLflow itself can check it
        return []
    location = experiment.artifact_location or str(Path("mlruns").absolute())  # the default of MLflow's client
    return [database, check_artifact_location(location, server=False)]
