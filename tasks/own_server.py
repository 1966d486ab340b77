"""Distinguish the Prefect server embedded in this command from one that outlives it."""

import os

from prefect.settings import PREFECT_API_URL

OWN_SERVER = "TUNESMITH_OWN_PREFECT_SERVER"
"""Environment variable with the address of such a server, which the processes of the command inherit."""


def mark_as_own(url: str) -> None:
    """Note that the server at an address ends with this command."""
    os.environ[OWN_SERVER] = url


def lasting_server() -> str | None:
    """Return the address of Prefect's API; None if its server ends with this command."""
    url: str | None = PREFECT_API_URL.value()
    return None if url == os.environ.get(OWN_SERVER) else url
