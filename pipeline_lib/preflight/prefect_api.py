"""Check Prefect's server: whether it answers, matches the installed Prefect, and has a worker.

It uses plain HTTP, since this package never imports Prefect.
"""

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.preflight.mlflow_rest import reason
from pipeline_lib.preflight.prefect_rest import ADDRESS, call
from pipeline_lib.preflight.result import CheckResult, check_warning, passed_check
from pipeline_lib.util.redaction import redact_url

if TYPE_CHECKING:
    import requests

NAME, WORKERS = "Prefect", "Prefect workers"
POOL = "tunesmith"
"""The work pool of the deployments in deployments/prefect.yaml."""


def refuse_silent_prefect() -> None:
    """Raise ServiceUnavailable or RecipeError if $PREFECT_API_URL names a server that cannot be used."""
    if url := os.environ.get(ADDRESS):
        server_version(url)


def check_prefect() -> list[CheckResult]:
    """Check the server that $PREFECT_API_URL names, and whether a worker is online."""
    if not (url := os.environ.get(ADDRESS)):
        found = f"{ADDRESS} is not set: commands use the active profile's server, or start a temporary one."
        return [passed_check(NAME, found)]
    return [_compare_versions(url, server_version(url)), _check_workers(url)]


def too_slow() -> CheckResult:
    """Return the result if Prefect's server takes too long to answer."""
    url = redact_url(os.environ.get(ADDRESS, ""))
    return check_warning(NAME, f"{url} does not answer in time.", "Check the server.")


def server_version(url: str) -> str | None:
    """Return the version of a Prefect server; None if it does not report one, like Prefect Cloud.

    Raises:
        ServiceUnavailable: The server does not answer.
        RecipeError: Access is denied, or it is not a Prefect server.
    """
    healthy = _ask(url, "GET", "health")
    if _json(healthy) is not True:
        problem = f"does not answer as Prefect's API does (status {healthy.status_code})"
        raise RecipeError(ADDRESS, redact_url(url), problem, "Give http://host:4200/api")
    answer = _ask(url, "GET", "admin/version")
    if answer.status_code in (401, 403):
        hint = "Set PREFECT_API_AUTH_STRING or PREFECT_API_KEY, whichever the server requires"
        raise RecipeError(ADDRESS, redact_url(url), f"denies access (status {answer.status_code})", hint)
    server = _json(answer)
    return server if isinstance(server, str) else None


def _compare_versions(url: str, server: str | None) -> CheckResult:
    client, shown = version("prefect"), redact_url(url)
    try:
        older = server is not None and Version(server) < Version(client)
    except InvalidVersion:
        older = False
    if older:
        found = f"{shown} is Prefect {server}, older than the client ({client})."
        return check_warning(
            NAME, found, "Upgrade the server: an older one may not support all requests of the client."
        )
    return passed_check(NAME, f"{shown} answers, Prefect {server or 'of an unknown version'}; the client is {client}.")


def _check_workers(url: str) -> CheckResult:
    hint = "Only runs from Prefect's page or a schedule need one: `tunesmith up` or `prefect worker start` starts it."
    answer = _ask(url, "POST", f"work_pools/{POOL}/workers/filter", {})
    if answer.status_code == 404:
        return check_warning(WORKERS, f"There is no work pool {POOL!r}.", hint)
    workers = _json(answer)
    if not isinstance(workers, list):
        return check_warning(WORKERS, f"Cannot be listed (status {answer.status_code}).")
    online = [str(worker.get("name")) for worker in workers if worker.get("status") == "ONLINE"]
    if not online:
        return check_warning(WORKERS, f"No worker of the pool {POOL!r} is online ({len(workers)} known).", hint)
    return passed_check(WORKERS, f"{len(online)} online in the pool {POOL!r}: {', '.join(online[:3])}.")


def _ask(url: str, method: str, path: str, content: Mapping[str, Any] | None = None) -> "requests.Response":
    import requests

    try:
        return call(url, method, path, content)
    except (requests.RequestException, ValueError) as error:
        hint = "Start it (`tunesmith up` or `prefect server start`), or unset the variable"
        problem = f"does not answer ({reason(error)})"
        raise ServiceUnavailable(ADDRESS, redact_url(url), problem, hint) from None


def _json(answer: "requests.Response") -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
