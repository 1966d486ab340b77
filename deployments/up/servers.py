"""The addresses of the two servers, and whether they or other programs use the ports."""

import json
import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.util.redaction import MODE, redact_url

LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A server: its variable, the option that sets its port, its address, and the page that tells its kind."""

    name: str
    option: str
    address: str
    health: str
    healthy: bytes

    @property
    def answers(self) -> bool:
        """Whether a server of this kind answers at the address."""
        try:
            with urllib.request.urlopen(f"{self.address}{self.health}", timeout=5) as page:
                return bool(page.read(100).strip() == self.healthy)
        except OSError:
            return False

    @property
    def page(self) -> str:
        """The page to open in a browser; for MLflow, the table of runs."""
        if self.name != "MLFLOW_TRACKING_URI":
            return self.address
        try:
            return f"{self.address}/#/experiments/{_experiment(self.address)}/runs?{MODE}"
        except OSError:  # for example, the list of experiments of an MLflow that requires an account
            return f"{self.address}/#/experiments?{MODE}"

    @property
    def port(self) -> int:
        """The port of the address."""
        return urlsplit(self.address).port or 80

    def refuse_taken(self) -> None:
        """Raise RecipeError if another program uses the port, or a server on another machine does not answer."""
        if urlsplit(self.address).hostname not in (LOCAL, "localhost"):
            problem = "is set in the environment, but no server answers there"
            raise RecipeError(self.name, redact_url(self.address), problem, "Start it, or unset the variable")
        with socket.socket() as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # a process that has just ended is not a conflict
            try:
                probe.bind((LOCAL, self.port))
            except OSError:
                problem = f"is taken by {_holder(self.port)}"
                raise RecipeError(self.option, self.port, problem, "Stop it, or give another port") from None


def _experiment(address: str) -> str:
    """Return the id of the default experiment of recipes, creating it if necessary.

    Raises OSError if MLflow denies access.
    """
    name = Execution().experiment
    api = f"{address}/api/2.0/mlflow/experiments"
    try:
        with urllib.request.urlopen(f"{api}/get-by-name?experiment_name={name}", timeout=30) as found:
            return str(json.load(found)["experiment"]["experiment_id"])
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
    body = json.dumps({"name": name}).encode()
    request = urllib.request.Request(f"{api}/create", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as created:
        return str(json.load(created)["experiment_id"])


def prefect(port: int) -> Server:
    """Return Prefect's server: $PREFECT_API_URL, otherwise a port of this machine."""
    url = os.environ.get("PREFECT_API_URL", f"http://{LOCAL}:{port}/api")
    return Server(
        "PREFECT_API_URL", "--prefect-port", url.removesuffix("/").removesuffix("/api"), "/api/health", b"true"
    )


def mlflow(port: int) -> Server:
    """Return MLflow's server: $MLFLOW_TRACKING_URI if it is a server, otherwise a port of this machine."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    url = given if given.startswith("http") else f"http://{LOCAL}:{port}"
    return Server("MLFLOW_TRACKING_URI", "--mlflow-port", url.removesuffix("/"), "/health", b"OK")


def _holder(port: int) -> str:
    """Return the process that listens on a port, if this account may see it."""
    try:
        found = [connection for connection in psutil.net_connections("tcp") if connection.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return "a process of another account"
    pids = [connection.pid for connection in found if connection.laddr and connection.laddr.port == port]
    if not pids or pids[0] is None:
        return "a process of another account"
    try:
        process = psutil.Process(pids[0])
        return f"{process.name()} (process {process.pid}: {' '.join(process.cmdline())[:80]})"
    except psutil.Error:
        return f"process {pids[0]}"
