"""MLflow behind a reverse proxy: under a path, with a password, out of order. `pytest tests/tracking/test_proxied.py`

The proxy is ours, the server behind it is MLflow's own.
"""

import base64
import http.client
import os
import subprocess
import sys

import pytest
import yaml
from stub_server import Stub, serving
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking.registry import Registry

pytestmark = pytest.mark.server

USER, PASSWORD = "somebody", "plantedServer/Pass"
PREFIX = "/tools/mlflow"
PAGES = {
    "502": (502, "text/html", "<html><title>502 Bad Gateway</title></html>"),
    "sign in": (200, "text/html", "<!doctype html><html><title>Sign in</title></html>"),
    "not found": (404, "text/html", "<html>Not Found</html>"),
    "forbidden": (403, "application/json", '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'),
    "no entry": (401, "text/plain", "You are not authenticated"),
}


class Proxy(Stub):
    """Passes on what comes with the password under the prefix; `page` answers in MLflow's place, to all paths that hold
    the text `page_for`."""

    protocol_version = "HTTP/1.1"
    port, page, page_for = 0, None, ""

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        account = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if Proxy.page and Proxy.page_for in self.path:
            self.reply(*PAGES[Proxy.page])
        elif self.headers.get("Authorization") != f"Basic {account}":
            self.reply(*PAGES["no entry"])
        elif not self.path.startswith(f"{PREFIX}/"):
            self.reply(*PAGES["not found"])
        else:
            self.pass_on(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_one

    def pass_on(self, body):
        there = http.client.HTTPConnection("127.0.0.1", Proxy.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        there.request(self.command, self.path.removeprefix(PREFIX), body, headers)
        answer = there.getresponse()
        self.reply(answer.status, answer.getheader("Content-Type", ""), answer.read())


@pytest.fixture
def proxy(mlflow_server):
    """The proxy's address without an account; closed to everything else."""
    Proxy.port, Proxy.page, Proxy.page_for = mlflow_server.port, None, ""
    with serving(Proxy) as port:
        yield f"127.0.0.1:{port}{PREFIX}"


def with_account(proxy):
    return f"http://{USER}:{PASSWORD.replace('/', '%2F')}@{proxy}"


ACCOUNTS = {
    "in the environment": lambda proxy: (
        f"http://{proxy}",
        {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD},
    ),
    "in the address": lambda proxy: (with_account(proxy), {}),
}


@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=ACCOUNTS)
def test_a_model_is_retrained_and_scored_through_a_prefix_and_a_password_that_is_never_shown(
    document, proxy, account, tmp_path
):
    uri, more = account(proxy)
    document["execution"] |= {"tracking_uri": None, "store": "store"}
    document["training"]["epochs"] = 1
    document["name"] = f"proxied-{tmp_path.name}"
    (tmp_path / "moods.yaml").write_text(yaml.safe_dump(document))
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    env |= {"MLFLOW_TRACKING_URI": uri, **more}

    def tunesmith(*arguments):
        command = [sys.executable, "-c", "from pipeline_lib.cli.main import app; app()", *arguments]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = tunesmith("retrain", "moods.yaml", "--plain")
    assert "promoted (version 1" in said
    said += tunesmith("run", "moods.yaml", "--plain")
    page = next(line for line in said.splitlines() if line.startswith("MLflow run"))
    assert f"http://{proxy}/#/experiments/" in page
    said += tunesmith("audit", f"models:/{document['name']}@champion")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 30
    for secret in (PASSWORD, PASSWORD.replace("/", "%2F")):
        assert secret not in said
        assert [file for file in files if secret.encode() in file.read_bytes()] == []


@pytest.mark.parametrize(
    ("page", "kind", "words"),
    [
        ("502", ServiceUnavailable, "MLflow does not answer"),
        ("sign in", ServiceUnavailable, "MLflow does not answer"),
        ("not found", ServiceUnavailable, "MLflow does not answer"),
        ("forbidden", RecipeError, "MLflow rejects the request (PERMISSION_DENIED: Permission denied)"),
        ("no entry", RecipeError, "MLflow rejects the request"),
    ],
)
def test_what_is_not_an_answer_of_mlflow_is_one_error_and_never_a_missing_champion(
    proxy, page, kind, words, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = with_account(proxy)
    Proxy.page = page
    for ask in (
        lambda: Registry(Execution(tracking_uri=uri), "moods").champion(),
        lambda: Registry(Execution(tracking_uri=uri), "moods").versions(),
    ):
        with pytest.raises(RecipeError) as excinfo:
            ask()
        assert type(excinfo.value) is kind
        assert words in str(excinfo.value)
        assert "planted" not in str(excinfo.value)
    for command in (["audit"], ["audit", "0" * 32], ["reproduce", "0" * 32], ["rollback", "moods"]):
        said = CliRunner().invoke(app, [*command, "--tracking-uri", uri])
        assert said.exit_code == 2, said.output
        assert words in said.output
        assert "planted" not in said.output


def test_artifacts_that_cannot_be_read_are_an_error_and_not_an_audit_that_found_nothing(
    document, proxy, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    document["execution"] |= {"tracking_uri": with_account(proxy)}
    document["training"]["epochs"] = 1
    run(check(document))
    given = ["audit", "--tracking-uri", with_account(proxy), "--experiment", tmp_path.name]
    assert CliRunner().invoke(app, given).exit_code == 0
    Proxy.page, Proxy.page_for = "502", "mlflow-artifacts"
    said = CliRunner().invoke(app, given)
    assert said.exit_code == 2, said.output
    assert "MLflow cannot provide its artifacts" in said.output or "MLflow does not answer" in said.output
