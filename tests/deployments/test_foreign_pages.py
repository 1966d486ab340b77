"""A web page of another origin, and a name that an attacker resolves to this machine, at the servers of `tunesmith up`.

`pytest tests/deployments/test_foreign_pages.py`
"""

import http.client
import json
from contextlib import closing

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from deployments.up.prefect_server import OwnPagesOnly, cors_setting, own_origins

EVIL = "https://evil.example"
FILTER = "/api/deployments/filter"


def answer(port, method, path, body=None, **headers):
    """Status, headers and text of an answer; `Host` may be any."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with closing(connection) as request:
        text = None if body is None else json.dumps(body)
        request.request(method, path, text, {"Content-Type": "application/json", **headers})
        response = request.getresponse()
        return response.status, response.headers, response.read().decode()


@pytest.fixture(scope="module")
def ports(running):
    return running.ports


@pytest.mark.server
def test_a_page_of_another_origin_reads_and_changes_nothing_in_prefect(running, ports):
    signed = running.csrf()
    for origin in (EVIL, "null", f"http://localhost:{ports[1]}", f"http://127.0.0.1.evil.example:{ports[0]}"):
        for method, body in (("GET", None), ("POST", {}), ("OPTIONS", None)):
            request_headers = {"Origin": origin, "Access-Control-Request-Method": "POST", **signed}
            status, headers, text = answer(ports[0], method, FILTER, body, **request_headers)
            assert status == 403, (origin, method)
            assert "Access-Control-Allow-Origin" not in headers
            assert "finetune" not in text
    status, headers, _ = answer(ports[0], "GET", "/api/csrf-token?client=page", Origin=EVIL)
    assert (status, headers["Access-Control-Allow-Origin"]) == (403, None)


@pytest.mark.server
def test_prefects_own_pages_work_under_each_name_of_this_machine(running, ports):
    for name in ("localhost", "127.0.0.1", "[::1]"):
        origin = f"http://{name}:{ports[0]}"
        status, headers, text = answer(ports[0], "POST", FILTER, {}, Origin=origin, Host=origin[7:], **running.csrf())
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, origin)
        assert "finetune" in text
    _, headers, _ = answer(ports[0], "GET", "/")
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"


@pytest.mark.server
def test_a_change_needs_a_csrf_token(ports):
    status, _, text = answer(ports[0], "POST", FILTER, {})
    assert (status, json.loads(text)["detail"]) == (403, "Missing CSRF token.")


@pytest.mark.server
@pytest.mark.parametrize(
    "host", ["evil.example", "10.evil.example", "127.0.0.1.evil.example", "[", "", "localhost@evil"]
)
def test_a_name_that_is_resolved_to_this_machine_opens_neither_server(ports, host):
    for port, path in (
        (ports[0], "/api/admin/version"),
        (ports[0], "/"),
        (ports[1], "/api/2.0/mlflow/experiments/get"),
    ):
        status, _, text = answer(port, "GET", path, Host=f"{host}:{port}" if host else "")
        assert status in (400, 403), (path, text)
        assert "artifact_location" not in text and "<html" not in text


@pytest.mark.server
def test_a_page_of_another_origin_changes_nothing_in_mlflow(ports):
    status, headers, _ = answer(ports[1], "POST", "/api/2.0/mlflow/experiments/create", {"name": "evil"}, Origin=EVIL)
    assert (status, headers["Access-Control-Allow-Origin"]) == (403, None)
    _, headers, _ = answer(ports[1], "GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", Origin=EVIL)
    assert headers["Access-Control-Allow-Origin"] is None  # the browser keeps what it reads from the page


@pytest.mark.server
@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
def test_a_page_of_another_origin_opens_no_web_socket(ports, path):
    address = f"ws://127.0.0.1:{ports[0]}/api/{path}"
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin=EVIL, subprotocols=["prefect"])
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus):
        connect(address, additional_headers={"Host": "evil.example"}, subprotocols=["prefect"])
    for options in ({}, {"origin": f"http://localhost:{ports[0]}"}):
        with connect(address, subprotocols=["prefect"], **options) as socket:
            socket.send(json.dumps({"type": "auth", "token": None}))
            assert json.loads(socket.recv(timeout=60)) == {"type": "auth_success"}


def test_a_servers_addresses_are_those_that_its_environment_names(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    monkeypatch.setenv("PREFECT_UI_API_URL", "https://runs.example/api")
    monkeypatch.setenv("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "http://other.example:8080, ")
    origins = own_origins(4200)
    named = {("prefect", 4200), ("runs.example", 443), ("other.example", 8080)}
    assert origins == named | {(name, 4200) for name in ("localhost", "127.0.0.1", "::1")}
    assert "http://runs.example:443,https://runs.example" in cors_setting(origins)
    assert "http://[::1]:4200" in cors_setting(origins)
    gate = OwnPagesOnly(None, origins)
    from starlette.datastructures import Headers

    assert gate.problem(Headers({"host": "runs.example", "origin": "https://runs.example"})) is None
    assert gate.problem(Headers({"host": "runs.example"})) is None
    for headers in ({}, {"host": "runs.example", "origin": "https://runs.example:8443"}, {"host": "x", "origin": ""}):
        assert gate.problem(Headers(headers))
