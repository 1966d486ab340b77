"""Whether this machine can write where an MLflow experiment keeps its artifacts."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline_lib.errors import RecipeError
from pipeline_lib.preflight.folders import existing_part, is_writable
from pipeline_lib.preflight.result import CheckResult, failed, ok
from pipeline_lib.util.redaction import without_password

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
"""What MLflow's client needs to write there itself: the module, and the package that has it."""


def check_artifact_location(location: str | None, server: bool) -> CheckResult:
    """Check a location as MLflow's client gets it; with a `server`, a folder is one that the server has named."""
    if location is None:
        return ok(NAME, "MLflow says where they go once the experiment exists.")
    scheme, shown = urlsplit(location).scheme, without_password(location)
    if scheme == "mlflow-artifacts":
        return ok(NAME, "They go through the MLflow server.")
    if scheme in DRIVERS:
        return _check_driver(shown, *DRIVERS[scheme])
    if scheme not in ("", "file"):
        return ok(NAME, f"They go to {shown}, which is for MLflow's client to write.")
    folder = Path(unquote(urlsplit(location).path))
    there = existing_part(folder)
    if there.is_dir() and is_writable(there):
        return ok(NAME, f"They go to {folder}, which this account can write.")
    problem = f"keeps artifacts in {folder}, which this account cannot write on this machine"
    hint = "Run in another folder, or give the experiment another one"
    if server:
        hint = "Start the server with --artifacts-destination, so that it writes them itself, or mount that folder here"
    return failed(NAME, RecipeError(FIELD, None, problem, hint))


def _check_driver(shown: str, module: str, package: str) -> CheckResult:
    try:
        missing = find_spec(module) is None
    except ModuleNotFoundError:  # the package above it
        missing = True
    if not missing:
        return ok(NAME, f"They go to {shown}; its driver {package} is installed.")
    problem = f"keeps artifacts in {shown}, and this machine lacks the driver {package}"
    return failed(NAME, RecipeError(FIELD, None, problem, f"Install it: pip install -c constraints.txt {package}"))
