"""What `tunesmith up` does without a server: ports, databases, children. `pytest tests/deployments/test_up.py`."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from stub_server import Stub, serving

from deployments.up import automations, databases, servers
from deployments.up.local_stack import LocalStack
from deployments.up.processes import Child
from pipeline_lib.errors import RecipeError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch):
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def other():
    """A server of another kind: it answers everything with one word."""

    class Answer(Stub):
        def do_GET(self):
            self.reply(200, "text/plain", "OK")

    with serving(Answer) as port:
        yield port


def test_a_server_that_runs_is_known_by_its_answer(other):
    assert servers.mlflow(other).answers
    assert not servers.prefect(other).answers


def test_a_taken_port_is_reported_with_its_holder(other):
    with pytest.raises(RecipeError) as excinfo:
        servers.prefect(other).refuse_taken()
    assert f"--prefect-port = {other}: is taken by " in str(excinfo.value)
    assert f"process {os.getpid()}: " in str(excinfo.value)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    servers.prefect(free).refuse_taken()


def test_an_address_of_the_environment_is_used_and_never_started(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api/")
    server = servers.prefect(1234)
    assert (server.address, server.port) == ("http://prefect.example:4200", 4200)
    with pytest.raises(RecipeError, match="no server answers there"):
        server.refuse_taken()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")  # no server: ours is started
    assert servers.mlflow(1234).address == "http://127.0.0.1:1234"


def test_what_is_no_webhook_is_refused_and_not_shown():
    automations.check("")
    automations.check("https://chat.example/services/1")
    with pytest.raises(RecipeError, match="must be a webhook URL") as excinfo:
        automations.check("chat.example/services/1")
    assert "services" not in str(excinfo.value)


def test_sqlite_is_chosen_or_kept_where_an_earlier_up_has_used_it(tmp_path):
    assert not databases.uses_sqlite("", tmp_path)
    assert databases.uses_sqlite("sqlite", tmp_path)
    (tmp_path / "prefect.db").touch()
    assert databases.uses_sqlite("", tmp_path)
    assert not databases.uses_sqlite("postgresql://host", tmp_path)
    assert "prefect.db in this folder, not used" in databases.describe_unused("postgresql://host", tmp_path)[0]
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    assert not databases.uses_sqlite("", tmp_path)
    assert databases.describe_unused("sqlite", tmp_path) == [
        "postgres/ in this folder, not used: `tunesmith up` without --database shows its runs"
    ]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://me:topsecret@host", "is not an address of a PostgreSQL server"),
        ("postgresql://me:topsecret@host:port", "is not an address of a PostgreSQL server"),
        ("postgresql://me:topsecret@host/mine", "must not name a database or options"),
        ("postgresql://me:top/secret@host", "in the password write / as %2F"),
        ("postgresql://me:topsecret@127.0.0.1:1", "cannot be used"),
    ],
)
def test_an_unsuitable_database_is_reported_without_its_password(url, problem):
    with pytest.raises(RecipeError, match=problem) as excinfo:
        databases.server_urls(url)
    assert "secret" not in str(excinfo.value)


@pytest.mark.parametrize(("runs", "threads"), [(1, None), (2, "6"), (24, "1")])
def test_runs_that_go_on_at_once_share_the_cores(runs, threads, tmp_path, monkeypatch):
    started = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("pipeline_lib.util.cpu.usable", lambda: 12)
    monkeypatch.setattr("deployments.up.register.register", lambda *_, moved: None)
    monkeypatch.setattr("deployments.up.register.has_online_worker", lambda _: True)
    monkeypatch.setattr(LocalStack, "_add", lambda self, name, command, environment: started.append(environment))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")
    monkeypatch.setenv("TUNESMITH_RECIPES", "")
    LocalStack(tmp_path, ExitStack()).work(runs, "")
    assert [environment.get("OMP_NUM_THREADS") for environment in started] == [threads]


def gone(pid, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_a_child_is_stopped_with_what_it_has_started(tmp_path):
    (tmp_path / "parent.py").write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"  # the kernel buries what has ended: nobody waits for it
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    child = Child("parent", ["parent"], {"PYTHONPATH": str(tmp_path)}, tmp_path / "logs" / "parent.log")
    while not child.last_log_lines():
        time.sleep(0.05)
    grandchild = int(child.last_log_lines())
    assert not child.has_ended
    child.stop()
    assert child.has_ended
    assert gone(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them")
def test_a_child_does_not_outlive_a_killed_up(tmp_path):
    code = (
        "from pathlib import Path\nimport time\nfrom deployments.up.processes import Child\n"
        f"print(Child('server', ['http.server', '0'], {{}}, Path({str(tmp_path)!r}) / 'log').process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    up = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    pid = int(up.stdout.readline())
    assert psutil.pid_exists(pid)
    up.kill()
    up.wait()
    assert gone(pid)


def test_a_stopped_worker_lets_its_runs_end_first(tmp_path):
    (tmp_path / "run.py").write_text(
        "import signal, sys, time\n"
        "def leave(*_):\n"
        "    time.sleep(0.5)\n"
        "    open('checkpoint', 'w').close()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "open('begun', 'w').close()\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "worker.py").write_text(
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)  # like Prefect's, it reports how its runs ended first\n"
        "run = subprocess.Popen([sys.executable, 'run.py'])\n"
        "open('reported', 'w').write(str(run.wait()))\n"
    )
    code = "import sys; from deployments.up.worker import work; sys.exit(work([sys.executable, 'worker.py']))"
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    worker.terminate()
    assert worker.wait(timeout=120) == 143
    assert (tmp_path / "checkpoint").exists()
    assert (tmp_path / "reported").read_text() == "143"
