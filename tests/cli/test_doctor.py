"""`tunesmith doctor`, and commands whose Prefect server is away. `pytest tests/preflight`"""

import json
import sys
from importlib.metadata import version
from typing import ClassVar

import pytest
from mlflow_server import free_port
from stub_server import Stub, serving
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.preflight.prefect_api import check_prefect, server_version


@pytest.fixture
def recipe_file(tmp_path, document, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    path = tmp_path / "moods.yaml"
    path.write_text(json.dumps(document))
    return path


def doctor(*arguments):
    said = CliRunner().invoke(app, ["doctor", *map(str, arguments)])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return said.exit_code, said.output


def as_json(*arguments):
    """Exit code, and name -> check; several of one name are the last."""
    code, said = doctor(*arguments, "--json")
    document = json.loads(said)
    return code, {check["name"]: check for check in document["checks"]}


def test_all_checks_of_a_recipe_are_a_table(recipe_file, tmp_path):
    code, said = doctor(recipe_file)
    assert code == 0, said
    for name in (
        "Python",
        "libraries",
        "optional packages",
        "data and base model",
        "MLflow",
        "MLflow artifacts",
        "store",
        "temporary folder",
        "disk space",
        "Prefect",
        "device",
    ):
        assert f"  {name} " in said
    assert said.splitlines()[-1] == "No check failed."
    assert not (tmp_path / "store").exists()  # it looks, and leaves nothing


def test_without_a_recipe_the_machine_is_checked(recipe_file):
    code, checks = as_json()
    assert code == 0, checks
    assert "disk space" not in checks
    assert {check["status"] for check in checks.values()} <= {"ok", "warning"}


def test_what_would_stop_a_run_is_reported_with_a_hint_and_exit_code_1(recipe_file, tmp_path):
    (tmp_path / "file").write_text("")
    code, checks = as_json(
        recipe_file,
        "execution.tracking_uri=postgresql+nothing://me:plantedPassword@127.0.0.1/x",
        f"execution.store={tmp_path}/file/store",
        "data.source.train=nowhere.csv",
    )
    assert code == 1
    assert {name for name, check in checks.items() if check["status"] == "failed"} == {
        "MLflow",
        "store",
        "data and base model",
    }
    assert all(check["hint"] for check in checks.values() if check["status"] == "failed")
    assert "planted" not in json.dumps(checks)
    assert (
        doctor(recipe_file, f"execution.store={tmp_path}/file/store")[1]
        .splitlines()[-1]
        .endswith("checks failed: a run would stop before any work.")
    )


def test_a_device_that_the_machine_has_not_got_fails(recipe_file, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, checks = as_json(recipe_file, "execution.device=cuda")
    assert (code, checks["device"]["status"]) == (1, "failed")
    assert "there is no GPU that torch can use" in checks["device"]["found"]


def test_a_mistake_in_the_recipe_is_one_error(recipe_file):
    code, said = doctor(recipe_file, "training.epoch=3")
    assert code == 2
    assert "Did you mean 'epochs'?" in said


class Api(Stub):
    """As much of Prefect's API as is asked; `pages` are status and content by path."""

    pages: ClassVar[dict[str, tuple[int, object]]] = {}

    def do_GET(self):
        status, content = self.pages.get(self.path, (404, {"detail": "Not Found"}))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(status, "application/json", json.dumps(content))

    do_POST = do_GET


WORKERS = "/api/work_pools/tunesmith/workers/filter"


@pytest.fixture
def api(monkeypatch):
    pages = {
        "/api/health": (200, True),
        "/api/admin/version": (200, version("prefect")),
        WORKERS: (200, [{"name": "one", "status": "ONLINE"}, {"name": "two", "status": "OFFLINE"}]),
    }
    monkeypatch.setattr(Api, "pages", pages)
    with serving(Api) as port:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
        yield pages


def test_prefect_is_compared_with_the_client_and_asked_for_workers(api):
    assert [result.status for result in check_prefect()] == ["ok", "ok"]
    assert check_prefect()[1].found == "1 online in the pool 'tunesmith': one."
    api["/api/admin/version"] = (200, "3.0.0")
    api[WORKERS] = (200, [])
    old, idle = check_prefect()
    assert (old.status, idle.status) == ("warning", "warning")
    assert "older than the client" in old.found
    assert "No worker of the pool 'tunesmith' is online" in idle.found
    del api[WORKERS]
    assert check_prefect()[1].found == "There is no work pool 'tunesmith'."


def test_a_prefect_server_that_asks_for_a_password_or_is_none_is_refused(api):
    api["/api/admin/version"] = (401, {"detail": "Unauthorized"})
    with pytest.raises(RecipeError, match="PREFECT_API_AUTH_STRING"):
        check_prefect()
    api["/api/health"] = (200, {"status": "fine"})
    with pytest.raises(RecipeError, match="does not answer as Prefect's API does"):
        check_prefect()


@pytest.mark.parametrize("command", ["run", "retrain", "sweep"])
def test_a_prefect_server_that_is_away_is_one_error_before_any_work(command, recipe_file, tmp_path, monkeypatch):
    url = f"http://me:plantedPassword@127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    said = CliRunner().invoke(app, [command, str(recipe_file)])
    assert said.exit_code == 2, said.output
    assert "PREFECT_API_URL = 'http://127.0.0.1:" in said.output
    assert "does not answer (" in said.output
    assert "planted" not in said.output
    assert not list((tmp_path / "store").glob("steps"))
    with pytest.raises(ServiceUnavailable):
        server_version(url)


@pytest.mark.parametrize("command", [["audit"], ["rollback", "moods"], ["reproduce", "0" * 32]])
def test_a_missing_driver_is_one_error_for_commands_that_only_read(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)  # as if it were not installed
    said = CliRunner().invoke(app, [*command, "--tracking-uri", "mysql+pymysql://me:plantedPassword@127.0.0.1/runs"])
    assert said.exit_code == 2, said.output
    assert "needs the database driver pymysql" in said.output
    assert "planted" not in said.output
