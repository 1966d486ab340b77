"""Check that this machine can write to the artifact location of an MLflow experiment."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline_lib.errors import RecipeError
from pipeline_lib.preflight.folders import find_existing_parent, is_writable
from pipeline_lib.preflight.result import CheckResult, failed_check, passed_check
from pipeline_lib.util.redaction import redact_url

NAME = "MLflow artifacts"
FIELD = "execution.tracking_uri"
DRIVERS = {
    "s3": ("boto3", "boto3"),
    "r2": ("boto3", "boto3"),
    "b2": ("boto3", "boto3"),
    "gs": ("google.cloud.storage", "google-cloud-storage"),
    "wasbs": ("azure.storage.blob", "azure-storage-blob"),
    "abfss": ("azure.storage.filedatalake", "azure-storage-file-datalake"),
}
"""URL scheme -> the module that MLflow's client needs to write there, and the package that contains it."""


def check_artifact_location(location: str | None, server: bool) -> CheckResult:
    """Check an artifact location.

    Args:
        location: The location as MLflow's client sees it; None if the experiment does not exist yet.
        server: Whether an MLflow server reported it; a folder may then be on the server's machine only.
    """
    if location is None:
        return passed_check(NAME, "The location is known once the experiment exists.")
    scheme, shown = urlsplit(location).scheme, redact_url(location)
    if scheme == "mlflow-artifacts":
        return passed_check(NAME, "Artifacts are uploaded through the MLflow server.")
    if scheme in DRIVERS:
        return _check_driver(shown, *DRIVERS[scheme])
    if scheme not in ("", "file"):
        return passed_check(NAME, f"Artifacts are written to {shown} by MLflow's client (access not checked).")
    folder = Path(unquote(urlsplit(location).path))
    existing = find_existing_parent(folder)
    if existing.is_dir() and is_writable(existing):
        return passed_check(NAME, f"Artifacts are written to {folder}, which is writable.")
    problem = f"stores artifacts in {folder}, which this account cannot write on this machine"
    hint = "Run in another folder, or use an experiment with another artifact location"
    if server:
        hint = "Start the server with --artifacts-destination so that it writes them itself, or mount that folder here"
    return failed_check(NAME, RecipeError(FIELD, None, problem, hint))


def _check_driver(shown: str, module: str, package: str) -> CheckResult:
    try:
        missing = find_spec(module) is None
    except ModuleNotFoundError:  # its parent package is missing
        missing = True
    if not missing:
        return passed_check(NAME, f"Artifacts are written to {shown}; its driver {package} is installed.")
    problem = f"stores artifacts in {shown}, and the driver {package} is not installed"
    return failed_check(
        NAME, RecipeError(FIELD, None, problem, f"Install it: pip install -c constraints.txt {package}")
    )
