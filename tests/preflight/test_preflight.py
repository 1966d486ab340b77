"""What a run checks before any work, each failing case for real where this machine can make it fail.

`pytest tests/preflight`
"""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from collections import namedtuple

import pytest
from mlflow.tracking import MlflowClient
from mlflow_server import free_port
from stub_server import Stub, serving

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.pipeline import input_checks, steps
from pipeline_lib.pipeline.run import run
from pipeline_lib.preflight import folders, packages, result
from pipeline_lib.preflight.artifact_location import check_artifact_location
from pipeline_lib.preflight.disk_space import check_disk_space
from pipeline_lib.preflight.mlflow_access import check_mlflow
from pipeline_lib.preflight.mlflow_database import check_server_database
from pipeline_lib.preflight.preflight import require
from pipeline_lib.preflight.result import ConcurrentCheck, passed_check, run_in_parallel
from pipeline_lib.preflight.storage import check_local_folders, check_store
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.schema import check
from pipeline_lib.store.object_storage import Objects

Usage = namedtuple("Usage", "total used free")


def mlflow(uri, **changes):
    """What the checks say of an MLflow, as (status, sentence, hint)."""
    results = check_mlflow(Execution(tracking_uri=uri, **changes))
    return [(found.status, found.found, found.hint) for found in results]


def refused(uri, **changes):
    with pytest.raises(RecipeError) as excinfo:
        check_mlflow(Execution(tracking_uri=uri, **changes))
    assert "planted" not in str(excinfo.value)
    return str(excinfo.value)


@pytest.mark.parametrize(
    ("scheme", "module", "install"),
    [
        ("postgresql+psycopg2", "psycopg2", "psycopg2-binary"),
        ("mysql+pymysql", "pymysql", "pymysql"),
        ("mysql", "MySQLdb", "mysqlclient"),
        ("mssql+pyodbc", "pyodbc", "pyodbc"),
    ],
)
def test_a_missing_database_driver_stops_a_run_before_any_work(
    document, tmp_path, monkeypatch, scheme, module, install
):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    uri = f"{scheme}://me:plantedPassword@127.0.0.1/runs"
    document["execution"]["tracking_uri"] = uri
    with pytest.raises(RecipeError) as excinfo:
        run(check(document))
    assert str(excinfo.value) == (
        f"execution.tracking_uri = '{scheme}://127.0.0.1/runs': needs the database driver {module}, which is not "
        f"installed. Install it: pip install -c constraints.txt {install}."
    )
    assert not list((tmp_path / "store").glob("steps/*/*/manifest.json"))


def test_an_address_of_no_known_database_is_refused():
    assert "is not a database address" in refused("postgresql+nothing://me:plantedPassword@127.0.0.1/runs")
    assert "is not a valid address" in refused("postgresql://me:plantedPassword@[bad/db")


def test_a_server_that_is_down_stops_a_run_only_where_the_recipe_says_so(caplog, document):
    uri = f"http://me:plantedPassword@127.0.0.1:{free_port()}"
    ((status, found, hint),) = mlflow(uri, when_mlflow_is_down="train")
    assert status == "warning"
    assert "does not answer (" in found
    assert "refused" in found
    assert "then starts" in hint
    (down,) = check_mlflow(Execution(tracking_uri=uri, when_mlflow_is_down="fail"))
    assert (down.status, type(down.error)) == ("failed", ServiceUnavailable)
    assert "planted" not in found + down.found
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        check_server_database(f"postgresql+psycopg2://127.0.0.1:{free_port()}/runs", "moods")
    document["execution"]["tracking_uri"] = uri
    require(check(document))
    assert "does not answer" in caplog.text


class Page(Stub):
    """Answers everything with one page."""

    status, kind, text = 200, "text/plain", ""

    def do_GET(self):
        self.reply(self.status, self.kind, self.text)


@pytest.fixture
def page():
    with serving(Page) as port:
        yield f"http://me:plantedPassword@127.0.0.1:{port}"


DENIED = '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (
            401,
            "You are not authenticated",
            "requires credentials, or rejects the given ones (status 401). Set MLFLOW_TRACKING_",
        ),
        (403, DENIED, "denies access (status 403: Permission denied). Give this account write permission"),
        (404, "nothing here", "does not answer as MLflow does (status 404"),
        (200, '{"other": 1}', "does not answer as MLflow does (status 200"),
    ],
)
def test_a_server_that_refuses_stops_a_run_whatever_the_recipe_says_of_outages(page, monkeypatch, status, text, words):
    monkeypatch.setattr(Page, "status", status)
    monkeypatch.setattr(Page, "text", text)
    assert words in refused(page, when_mlflow_is_down="train")


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (502, "<html>Bad Gateway</html>", "a web page instead of JSON"),
        (200, "<html>Sign in</html>", "a web page instead of JSON"),
        (429, "", "an error"),
    ],
)
def test_what_a_proxy_says_for_its_server_is_an_outage(page, monkeypatch, status, text, words):
    monkeypatch.setattr(Page, "status", status)
    monkeypatch.setattr(Page, "text", text)
    ((state, found, _),) = mlflow(page)
    assert state == "warning"
    assert f"answers with {words} (status {status})" in found


@pytest.mark.server
def test_real_servers_and_a_file_pass_and_a_deleted_experiment_does_not(
    mlflow_server, mlflow_server_without_artifacts, tracking_uri
):
    name = f"preflight-{uuid.uuid4().hex}"
    (server, artifacts) = mlflow(mlflow_server.uri, experiment=name)
    assert server[:2] == ("ok", f"{mlflow_server.uri} answers; the experiment {name!r} does not exist yet.")
    assert artifacts[:2] == ("ok", "Artifacts are uploaded through the MLflow server.")
    client = MlflowClient(mlflow_server.uri)
    created = client.create_experiment(name)
    assert mlflow(mlflow_server.uri, experiment=name)[0][1].endswith(f"has the experiment {name!r}.")
    client.delete_experiment(created)
    assert f"was deleted in MLflow. Restore it (`mlflow experiments restore --experiment-id {created}`)" in refused(
        mlflow_server.uri, experiment=name
    )
    _, artifacts = mlflow(mlflow_server_without_artifacts.uri, experiment=name)
    assert artifacts[0] == "ok"
    assert f"Artifacts are written to {mlflow_server_without_artifacts.folder}" in artifacts[1]
    assert [found[0] for found in mlflow(tracking_uri)] == ["ok", "ok"]


def test_a_folder_that_only_the_server_can_write_is_reported_with_a_hint():
    found = check_artifact_location("/dev/null/mlruns/1", server=True)
    assert found.status == "failed"
    assert "stores artifacts in /dev/null/mlruns/1, which this account cannot write on this machine" in found.found
    assert "--artifacts-destination" in found.hint


def test_a_bucket_for_artifacts_needs_its_driver(monkeypatch):
    monkeypatch.setattr("pipeline_lib.preflight.artifact_location.find_spec", lambda module: None)
    found = check_artifact_location("s3://runs/1", server=True)
    assert found.status == "failed"
    assert found.hint == "Install it: pip install -c constraints.txt boto3"


def test_a_database_that_is_none_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    assert "cannot be read as a database" in refused(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_missing_store_driver_stops_a_run_before_any_work(document, monkeypatch):
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    document["execution"]["store"] = "s3://bucket/store"
    with pytest.raises(RecipeError, match="needs a driver .*pip install -c constraints.txt s3fs"):
        require(check(document))


def refusing(monkeypatch, url, error):
    """A bucket that cannot be written."""

    def pipe_file(*_, **__):
        raise error

    monkeypatch.setattr(Objects(url).fs, "pipe_file", pipe_file)  # fsspec has one object for all with an address


def test_a_bucket_is_written_read_and_cleaned_up_and_one_that_refuses_is_an_error(monkeypatch):
    url = f"memory://{uuid.uuid4().hex}"
    (found,) = check_store(Execution(store=url))
    assert (found.status, found.found) == ("ok", f"{url}: a small object was written, read and removed.")
    assert Objects(url).fs.find(url) == []
    refusing(monkeypatch, url, PermissionError("Access Denied"))
    with pytest.raises(RecipeError, match="denies access .Access Denied."):
        check_store(Execution(store=url))


def test_a_bucket_without_credentials_is_not_asked_again(monkeypatch):
    url = f"memory://{uuid.uuid4().hex}"
    refusing(monkeypatch, url, RuntimeError("Unable to locate credentials"))
    with pytest.raises(RecipeError, match="denies access .*Check the credentials") as excinfo:
        check_store(Execution(store=url))
    assert type(excinfo.value) is RecipeError


def test_a_bucket_that_may_only_be_read_is_enough_where_nothing_is_to_be_made(document, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    document["execution"]["store"] = url = f"memory://{uuid.uuid4().hex}"
    document["training"]["epochs"] = 1
    run(check(document))
    refusing(monkeypatch, url, PermissionError("Access Denied"))
    (found,) = check_store(check(document).execution, check(document))
    assert found.status == "warning"
    run(check(document))
    document["seed"] = 8
    with pytest.raises(RecipeError, match="denies access"):
        run(check(document))


def test_a_store_that_cannot_be_a_folder_is_an_error(document, tmp_path):
    (tmp_path / "file").write_text("")
    document["execution"]["store"] = str(tmp_path / "file" / "store")
    with pytest.raises(RecipeError, match="execution.store = .*cannot be created: .*/file is a file"):
        require(check(document))


def test_a_store_that_is_not_there_yet_is_not_created(tmp_path):
    (found,) = check_store(Execution(store=str(tmp_path / "a" / "store")))
    assert found.found == f"{tmp_path}/a/store does not exist yet; {tmp_path} is writable."
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this account cannot mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_and_a_read_only_one_are_reported_before_any_work(document, small_disk):
    document["execution"]["store"] = str(small_disk / "store")
    with pytest.raises(RecipeError, match=r"has 6\d\.\d kB free, and a run needs .* Free some space"):
        require(check(document))
    (small_disk / "filler").write_bytes(b"x" * 65536)
    (found,) = check_store(check(document).execution)
    assert (found.status, found.hint) == ("failed", "Free some space")
    assert "No space left on device" in found.found
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (found,) = check_store(check(document).execution)
    assert "cannot be written (Read-only file system)" in found.found


def test_room_is_compared_with_what_a_run_writes(document, monkeypatch):
    def space(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 0, free))
        return check_disk_space(check(document))[0]

    assert space(10**12).status == "ok"
    full = space(1000)
    assert full.status == "failed"
    parts = r"9\d\.\d kB for the base model, 6\d\d\.\d kB for two checkpoints and the best weights"
    assert re.search(rf"has 1\.0 kB free, and a run needs 1\.\d MB \({parts}", full.found), full.found
    document["strategies"] = [{"kind": "partial", "last_layers": 1}]
    result = space(800_000)
    assert result.status == "warning"  # only the run finds out how much is trained
    assert "needs up to " in result.found
    monkeypatch.undo()
    document["training"]["epochs"] = 1
    run(check(document))
    reused = space(1000)
    assert reused.status == "ok"
    assert reused.found.endswith("every step of this recipe is in the store.")


@pytest.mark.parametrize("kind", ["none", "granted to all"])
def test_a_file_system_without_working_locks_is_refused(kind, tmp_path, monkeypatch):
    def flock(*_):
        if kind == "none":
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    words = {"none": "without file locks", "granted to all": "do not exclude one another"}[kind]
    assert words in folders.why_unusable(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    found = check_local_folders(Execution(store="memory://x"))
    assert [result.status for result in found] == ["failed", "failed"]
    assert words in found[1].found


def test_checks_run_side_by_side_and_one_that_breaks_keeps_none_from_ending(monkeypatch):
    monkeypatch.setattr(result, "LIMIT", 120)
    together = threading.Barrier(2)

    def meet():
        together.wait()
        return [passed_check("a", "met")]

    def breaks():
        raise ZeroDivisionError("by chance")

    checks = [
        *(ConcurrentCheck("meets", meet, lambda: passed_check("meets", "too slow")) for _ in range(2)),
        ConcurrentCheck("breaks", breaks, lambda: passed_check("breaks", "too slow")),
    ]
    found = run_in_parallel(checks)
    assert [result.found for result in found[:2]] == ["met", "met"]
    assert (found[2].status, found[2].found) == ("warning", "Could not be checked (ZeroDivisionError: by chance).")


def test_a_check_that_hangs_ends_at_the_limit(monkeypatch):
    monkeypatch.setattr(result, "LIMIT", 0.2)
    never, ended = threading.Event(), threading.Event()

    def hang():
        never.wait(120)
        ended.set()

    found = run_in_parallel([ConcurrentCheck("hangs", hang, lambda: passed_check("hangs", "too slow"))])
    assert [result.found for result in found] == ["too slow"]
    assert not ended.is_set()
    never.set()


def test_everything_missing_is_reported_at_once(document, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    (tmp_path / "file").write_text("")
    document["execution"] |= {"tracking_uri": "mysql+pymysql://127.0.0.1/x", "store": str(tmp_path / "file" / "store")}
    with pytest.raises(RecipeError, match="pymysql") as excinfo:
        require(check(document))
    assert len(excinfo.value.__notes__) >= 1
    assert "is a file" in excinfo.value.__notes__[0]


def test_a_check_is_made_by_the_first_step(document, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    document["execution"]["tracking_uri"] = "mysql+pymysql://127.0.0.1/x"
    with pytest.raises(RecipeError, match="pymysql"):
        steps.encode(check(document))


def test_packages_are_compared_with_what_the_project_supports(document, monkeypatch):
    assert packages.check_python().status == packages.check_libraries().status == "ok"
    installed = packages.installed_version
    changed = {"transformers": "4.0.0"}
    monkeypatch.setattr(packages, "installed_version", lambda name: changed.get(name, installed(name)))
    assert "(4.0.0 is installed)" in packages.check_libraries().found
    assert packages.check_libraries().status == "warning"
    changed["peft"] = None
    missing = packages.check_libraries()
    assert missing.status == "failed"
    assert "peft" in missing.found
    monkeypatch.setattr(packages, "installed_version", lambda name: None)
    document["execution"]["task_runner"] = "ray"
    ray = packages.check_optional_packages(check(document))
    assert (ray.status, ray.hint) == ("failed", "Install them: pip install -c constraints.txt -e '.[ray]'")


def test_a_run_checks_the_packages_that_its_recipe_needs(document, monkeypatch):
    document["training"]["optimizer"] = {"kind": "adamw_8bit"}
    input_checks.check_inputs(check(document))
    installed = packages.installed_version
    changed = {"bitsandbytes": None}
    monkeypatch.setattr(packages, "installed_version", lambda name: changed.get(name, installed(name)))
    with pytest.raises(
        RecipeError, match=r"training.optimizer.kind = 'adamw_8bit': needs packages .*bitsandbytes"
    ) as missing:
        input_checks.check_inputs(check(document))
    assert missing.value.hint == "Install them: pip install -c constraints.txt -e '.[quantization]'"
