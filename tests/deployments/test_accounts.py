"""Servers that ask for an account, as those of compose.yaml do. `pytest tests/deployments/test_accounts.py`."""

import os
import subprocess
import sys
from uuid import UUID

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer, free_port
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from pipeline_lib.audit import prefect_api as flow_states
from pipeline_lib.errors import RecipeError
from pipeline_lib.preflight.mlflow_rest import check_server
from pipeline_lib.preflight.prefect_api import check_prefect, server_version
from pipeline_lib.tracking.environment import FlowRun

pytestmark = pytest.mark.server

PASSWORD = "d@or:k/ey%20#?"


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory):
    """A Prefect server with an account, and protected against CSRF as every one that we start."""
    folder, port = tmp_path_factory.mktemp("prefect"), free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own |= {"PREFECT_HOME": str(folder), "PREFECT_SERVER_API_AUTH_STRING": f"tunesmith:{PASSWORD}"}
    command = [sys.executable, "-m", "deployments.up.prefect_server", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=own, stdout=log, stderr=log)
    api = f"http://127.0.0.1:{port}/api"
    try:
        settings = {PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: f"tunesmith:{PASSWORD}"}
        with temporary_settings(settings), get_client(sync_client=True) as client:
            while client.api_healthcheck() is not None:
                assert server.poll() is None, (folder / "log").read_text()
            client.read_work_pools()  # the first answers take long
        yield api
    finally:
        server.terminate()
        server.wait(timeout=120)


@pytest.fixture
def account(prefect_api, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"tunesmith:{PASSWORD}")


def test_a_prefect_server_with_an_account_lets_us_in_and_refuses_others(prefect_api, account, monkeypatch):
    answers, workers = check_prefect()
    assert answers.status == "ok"
    assert workers.found == "There is no work pool 'tunesmith'."  # asked with POST, which needs a CSRF token
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "tunesmith:another")
    with pytest.raises(RecipeError, match="denies access"):
        server_version(prefect_api)


def test_the_audit_sets_the_state_of_a_flow_run_on_a_server_with_an_account(prefect_api, account):
    from prefect import flow
    from prefect.states import Running

    settings = {PREFECT_API_URL: prefect_api, PREFECT_API_AUTH_STRING: f"tunesmith:{PASSWORD}"}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        run = client.create_flow_run(flow(lambda: None, name="moods"), state=Running())
        flow_states.crash(FlowRun("moods", str(run.id), prefect_api))
        assert flow_states.state(FlowRun("moods", str(run.id), None)) == "CRASHED"
        assert client.read_flow_run(UUID(str(run.id))).state.is_crashed()


def test_an_mlflow_server_with_accounts_lets_us_in_and_refuses_others(tmp_path, monkeypatch):
    pytest.importorskip("flask_wtf", reason="pip install tunesmith[auth]")
    config = tmp_path / "accounts.ini"
    config.write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/server/server.db\n")
    settings = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key"}
    settings |= {"MLFLOW_AUTH_ADMIN_USERNAME": "tunesmith", "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
    with MlflowServer(tmp_path / "server", "--app-name", "basic-auth", **settings) as server:
        with pytest.raises(RecipeError, match="requires credentials"):
            check_server(server.uri, "Default")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "tunesmith")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        answer, experiment = check_server(server.uri, "Default")
        assert answer.status == "ok"
        assert experiment.artifact_location.startswith("mlflow-artifacts:")

        from mlflow.server import get_app_client  # two seconds, which tests of other files need not wait

        get_app_client("basic-auth", server.uri).create_user("reader", PASSWORD)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
        with pytest.raises(RecipeError, match="Give this account write permission for the experiment 'Default'"):
            check_server(server.uri, "Default")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "tunesmith")
        assert MlflowClient(server.uri).search_runs(["0"]) == []  # to ask has created none


def test_a_prefect_account_that_could_never_sign_in_is_refused():
    own = os.environ | {"PREFECT_SERVER_API_AUTH_STRING": "tunesmith:clé"}
    command = [sys.executable, "-m", "deployments.up.prefect_server"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=300)
    assert (done.returncode, "clé" in done.stderr) == (2, False)
    assert "ASCII characters only" in done.stderr
