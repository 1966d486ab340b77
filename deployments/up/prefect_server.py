"""Prefect's server, for its own pages and its clients only: any other web page in the same browser is refused.

Started as `python -m deployments.up.prefect_server [--host 0.0.0.0] [--port 4200]`. It is the server of `prefect server
start`, which answers pages of every origin and requests for every host name.

Its own addresses are PREFECT_API_URL (its clients'), PREFECT_UI_API_URL (its pages'), and those in
PREFECT_SERVER_CORS_ALLOWED_ORIGINS, separated by commas.
"""

import os
from collections.abc import Set
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Origin = tuple[str, int]
"""A host name and a port."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Host names of this machine that can be used in a browser."""
DEFAULT_PORTS = {"http": 80, "https": 443}
ACCOUNT, ORIGINS = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
FRAMES = (b"content-security-policy", b"frame-ancestors 'self'")
"""Headers against clickjacking: no other page may show this one in a frame."""


class OwnPagesOnly:
    """ASGI middleware that refuses web pages of other origins, on web sockets too, and other host names.

    CORS only keeps other pages from reading answers; their requests still do what they ask for, and it does not cover
    web sockets. A page whose name an attacker resolves to this machine (DNS rebinding) is of the same origin, so the
    host name counts, too.
    """

    def __init__(self, app: "ASGIApp", origins: Set[Origin]):
        self.app, self.origins = app, origins
        self.hosts = {host for host, _ in origins}

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer 403, or pass the request on."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        if problem := self.problem(Headers(scope=scope)):
            return await PlainTextResponse(f"{problem}\n", status_code=403)(scope, receive, send)

        async def send_with_policy(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], FRAMES]
            await send(message)

        return await self.app(scope, receive, send_with_policy)

    def problem(self, headers: "Headers") -> str | None:
        """Return why a request is refused, or None."""
        try:
            if urlsplit(f"//{headers.get('host', '')}").hostname not in self.hosts:
                return f"This is not a host name of this server. Its own addresses are listed in {ORIGINS}."
            for origin in headers.getlist("origin"):  # programs send none
                if _origin(origin) not in self.origins:
                    return f"This is not a page of this server. Its own addresses are listed in {ORIGINS}."
        except ValueError:
            return "Invalid Host or Origin."
        return None


def own_origins(port: int) -> set[Origin]:
    """Return the origins of the server's own pages: those that the environment names, and its port on this machine."""
    named = [os.environ.get("PREFECT_API_URL", ""), os.environ.get("PREFECT_UI_API_URL", "")]
    named += os.environ.get(ORIGINS, "").split(",")
    origins = {_origin(address.strip()) for address in named if address.strip()}
    origins.add(("localhost", port))
    for host, own in list(origins):
        if host in LOOPBACK:
            origins.update((name, own) for name in LOOPBACK)
    return origins


def cors_setting(origins: Set[Origin]) -> str:
    """Return origins as Prefect's CORS setting takes them, separated by commas."""
    listed = []
    for host, port in sorted(origins):
        name = f"[{host}]" if ":" in host else host
        for scheme, default in DEFAULT_PORTS.items():
            listed.append(f"{scheme}://{name}" if port == default else f"{scheme}://{name}:{port}")
    return ",".join(listed)


def _origin(address: str) -> Origin:
    """Return an address's host and port; ("", 0) for `null`, which is the origin of a page in a file."""
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def serve(
    host: Annotated[str, typer.Option(help="The network interface to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 4200,
) -> None:
    """Serve Prefect's API and pages, with Prefect's protection against cross-site request forgery (CSRF)."""
    if not os.environ.get(ACCOUNT, "").isascii():
        fail(RecipeError(ACCOUNT, None, "must contain ASCII characters only", "Write it as user:password"))
    origins = own_origins(port)
    os.environ[ORIGINS] = cors_setting(origins)  # before Prefect is imported: it reads its settings then
    os.environ["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] = "true"
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    # around Prefect's app, not one of its middlewares: its services call the app under a host name of their own
    uvicorn.run(
        OwnPagesOnly(create_app(final=True), origins),
        host=host,
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    typer.run(serve)
