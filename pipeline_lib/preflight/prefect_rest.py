"""Calls to Prefect's API over plain HTTP with its client's credentials, since this package never imports Prefect."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    import requests

ADDRESS = "PREFECT_API_URL"
PATIENCE = 5.0
"""Seconds to wait for an answer."""


def call(url: str, method: str, path: str, content: Mapping[str, Any] | None = None) -> "requests.Response":
    """Call a Prefect API and return its response, which may be an error status.

    The credentials in the environment are sent only to the API that PREFECT_API_URL names.

    Raises:
        requests.RequestException, ValueError: There is no response.
    """
    import requests

    api = url.rstrip("/")
    with requests.Session() as session:
        if api == os.environ.get(ADDRESS, "").rstrip("/"):
            _sign_in(session)
        if method != "GET":
            session.headers.update(_csrf_headers(session, api))
        return session.request(method, f"{api}/{path}", json=content, timeout=PATIENCE)


def _sign_in(session: "requests.Session") -> None:
    from requests.auth import HTTPBasicAuth

    if account := os.environ.get("PREFECT_API_AUTH_STRING"):
        user, _, password = account.partition(":")
        # As bytes: requests would encode strings as Latin-1, and servers expect UTF-8.
        session.auth = HTTPBasicAuth(user.encode(), password.encode())
    elif key := os.environ.get("PREFECT_API_KEY"):
        session.headers["Authorization"] = f"Bearer {key}"
    if os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in ("true", "1"):
        session.verify = False
    elif certificate := os.environ.get("PREFECT_API_SSL_CERT_FILE"):
        session.verify = certificate


def _csrf_headers(session: "requests.Session", api: str) -> dict[str, str]:
    """Return the headers that a write needs if the server has CSRF protection, otherwise none."""
    client = str(uuid4())
    answer = session.get(f"{api}/csrf-token", params={"client": client}, timeout=PATIENCE)
    issued = answer.json() if answer.status_code == 200 else None
    if not isinstance(issued, dict) or "token" not in issued:
        return {}
    return {"Prefect-Csrf-Token": str(issued["token"]), "Prefect-Csrf-Client": client}
