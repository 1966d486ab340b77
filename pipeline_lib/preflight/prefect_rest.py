"""Calls of Prefect's API over plain HTTP, signed in as its own client is: this package never imports Prefect."""

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
    """Call a Prefect API and return what it answers, errors included.

    The account of this environment is only sent to the API of PREFECT_API_URL. Raises `requests.RequestException` or
    ValueError where there is no answer.
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
        # as bytes: requests would encode strings as Latin-1, and the servers read UTF-8
        session.auth = HTTPBasicAuth(user.encode(), password.encode())
    elif key := os.environ.get("PREFECT_API_KEY"):
        session.headers["Authorization"] = f"Bearer {key}"
    if os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in ("true", "1"):
        session.verify = False
    elif certificate := os.environ.get("PREFECT_API_SSL_CERT_FILE"):
        session.verify = certificate


def _csrf_headers(session: "requests.Session", api: str) -> dict[str, str]:
    """Return the headers that a change needs where the server is protected against CSRF; none where it is not."""
    client = str(uuid4())
    answer = session.get(f"{api}/csrf-token", params={"client": client}, timeout=PATIENCE)
    issued = answer.json() if answer.status_code == 200 else None
    if not isinstance(issued, dict) or "token" not in issued:
        return {}
    return {"Prefect-Csrf-Token": str(issued["token"]), "Prefect-Csrf-Client": client}
