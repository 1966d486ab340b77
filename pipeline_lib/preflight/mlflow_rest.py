"""Check an MLflow server: whether it answers, accepts our credentials and has the experiment.

It uses plain HTTP, since importing MLflow takes seconds.
"""

import configparser
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.preflight.result import CheckResult, passed_check
from pipeline_lib.tracking.availability import PATIENCE, deleted_experiment_error
from pipeline_lib.util.redaction import redact_url

if TYPE_CHECKING:
    import requests

FIELD = "execution.tracking_uri"
NAME = "MLflow"
OTHER_SIGN_IN = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")
"""Authentication methods that only MLflow's client supports."""
CREDENTIALS = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class Experiment(NamedTuple):
    """What is known about an experiment before a run."""

    artifact_location: str | None
    """Where its artifacts are written; None if not known yet."""


def check_server(uri: str, name: str) -> tuple[CheckResult, Experiment]:
    """Look up a run's experiment on an MLflow server.

    Raises:
        ServiceUnavailable: The server does not answer.
        RecipeError: Access is denied, it is not an MLflow server, or the experiment was deleted.
    """
    shown = redact_url(uri)
    answer = _get(uri, "experiments/get-by-name", {"experiment_name": name})
    if answer.status_code == 404 and _content(answer).get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        default = _get(uri, "experiments/get", {"experiment_id": "0"})  # has the same artifact root as a new experiment
        location = _content(default).get("experiment", {}).get("artifact_location")
        return passed_check(NAME, f"{shown} answers; the experiment {name!r} does not exist yet."), Experiment(location)
    if answer.status_code in (401, 403) and any(map(os.environ.get, OTHER_SIGN_IN)):
        return passed_check(NAME, f"{shown} answers; credentials are not checked before the run."), Experiment(None)
    _refuse(answer, uri, name)
    experiment = _content(answer)["experiment"]
    if experiment.get("lifecycle_stage") == "deleted":
        raise deleted_experiment_error(name, experiment["experiment_id"])
    _refuse_reader(uri, name, experiment["experiment_id"])
    return passed_check(NAME, f"{shown} answers and has the experiment {name!r}."), Experiment(
        experiment["artifact_location"]
    )


def _refuse_reader(uri: str, name: str, experiment_id: str) -> None:
    """Raise RecipeError if this account may read the experiment but not write to it.

    Requests a run with an invalid start time: an account with write permission gets status 400, one without gets 403,
    and nothing is created in either case.
    """
    answer = _call(uri, "POST", "runs/create", json={"experiment_id": experiment_id, "start_time": "never"})
    if answer.status_code == 403:
        _refuse(answer, uri, name)


def _refuse(answer: "requests.Response", uri: str, name: str) -> None:
    """Raise the error that fits an answer without the experiment."""
    code = answer.status_code
    message = str(_content(answer).get("message") or answer.text).strip()[:200]
    page = message.startswith("<")  # HTML from a proxy (see `is_outage`): MLflow itself answers in JSON
    if code == 429 or code >= 500 or (page and code not in (401, 403)):
        problem = "answers with a web page instead of JSON" if page else "answers with an error"
        raise ServiceUnavailable(FIELD, uri, f"{problem} (status {code})", "Check its server")
    if code == 401:
        raise RecipeError(FIELD, uri, "requires credentials, or rejects the given ones (status 401)", CREDENTIALS)
    if code == 403:
        hint = f"Give this account write permission for the experiment {name!r}, or fix the cause that the server names"
        raise RecipeError(FIELD, uri, f"denies access (status 403: {message})", hint)
    if code != 200 or "experiment" not in _content(answer):
        problem = f"does not answer as MLflow does (status {code}, {answer.headers.get('Content-Type', 'no type')})"
        raise RecipeError(FIELD, uri, problem, "Give the address of an MLflow server")


def _get(uri: str, call: str, parameters: dict[str, str]) -> "requests.Response":
    return _call(uri, "GET", call, params=parameters)


def _call(uri: str, method: str, call: str, **content: Any) -> "requests.Response":
    import requests

    address = f"{uri.rstrip('/')}/api/2.0/mlflow/{call}"
    try:
        with _session() as session:
            return session.request(method, address, timeout=PATIENCE, **content)
    except requests.exceptions.SSLError as error:
        hint = "Name its certificate in MLFLOW_TRACKING_SERVER_CERT_PATH"
        raise RecipeError(FIELD, uri, f"has an untrusted certificate ({reason(error)})", hint) from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise ServiceUnavailable(FIELD, uri, f"does not answer ({reason(error)})", "Start it") from None
    except (requests.RequestException, ValueError) as error:
        raise RecipeError(FIELD, uri, f"is not a valid address ({error})", "Give http://host:port") from None


def _session() -> "requests.Session":
    """Return a session with the credentials of MLflow's client; requests itself handles URL passwords and ~/.netrc."""
    import requests
    from requests.auth import HTTPBasicAuth

    session = requests.Session()
    username, password = _account()
    if username and password:
        # As bytes: requests would encode strings as Latin-1, and servers expect UTF-8.
        session.auth = HTTPBasicAuth(username.encode(), password.encode())
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    if workspace := os.environ.get("MLFLOW_WORKSPACE"):
        session.headers["X-MLFLOW-WORKSPACE"] = workspace
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        session.verify = False
    elif certificate := os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        session.verify = certificate
    return session


def _account() -> tuple[str | None, str | None]:
    """Return user and password from the environment or the file that `mlflow login` writes."""
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    file = configparser.ConfigParser(interpolation=None)
    file.read(Path.home() / ".mlflow" / "credentials")
    username, password = (os.environ.get(name) or file.get("mlflow", name, fallback=None) for name in names)
    return username, password


def _content(answer: "requests.Response") -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def reason(error: Exception) -> str:
    """Return the root cause of a connection error, which requests and urllib3 wrap several times."""
    cause: Any = error
    while nested := getattr(cause, "reason", None) or next((a for a in cause.args if isinstance(a, Exception)), None):
        if not isinstance(nested, Exception):
            break
        cause = nested
    return str(cause).rpartition(": ")[2][:200] or type(cause).__name__
