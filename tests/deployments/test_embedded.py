"""The server that a command starts for itself. `pytest tests/deployments/test_embedded.py`."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

pytestmark = pytest.mark.server

RUN = """
import time

from deployments.embedded import Embedded

embedded = Embedded()
{meanwhile}
while not embedded.answers():
    time.sleep(0.1)
embedded.hand_over()
import sys

import psutil
from prefect import flow

from tasks.own_server import lasting_server

@flow
def doubled(number: int) -> int:
    return 2 * number

number = doubled(21)
(server,) = psutil.Process().children()
own = f"{{embedded.port}}" in " ".join(server.cmdline())
print(number, own, server.pid, "prefect.server" in sys.modules, lasting_server(), flush=True)
{then}
"""


def started(home, meanwhile="", then=""):
    """A Python that starts a server, imports Prefect, and runs a flow."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-c", RUN.format(meanwhile=meanwhile, then=then)],
        env=clean | {"HOME": str(home), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"},
        stdout=subprocess.PIPE,
        text=True,
    )


def output_fields(process):
    """The flow's result, whether it ran on the server that was started, the server's process, and the last two."""
    number, own, server, *others = process.stdout.readline().split()
    return int(number), own == "True", int(server), others


def gone(server):
    with suppress(psutil.NoSuchProcess):
        psutil.Process(server).wait(timeout=120)
    return not psutil.pid_exists(server)


def test_a_flow_runs_on_it_and_it_ends_with_the_command_also_when_that_is_killed(tmp_path):
    first = started(tmp_path)
    number, own, server, others = output_fields(first)
    assert (number, own) == (42, True)
    assert others == ["False", "None"], "the server's code is not imported here, and nobody is sent to its address"
    assert first.wait(timeout=120) == 0
    assert gone(server)
    second = started(tmp_path, then="import time; time.sleep(600)")
    _, _, server, _ = output_fields(second)
    assert psutil.pid_exists(server)
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert gone(server)


def test_where_it_could_not_start_prefect_starts_another_one(tmp_path):
    fails = """
import subprocess, sys
embedded.started.pop().kill()
embedded.started.append(subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]))
"""
    number, own, server, _ = output_fields(process := started(tmp_path, meanwhile=fails))
    assert (number, own) == (42, False)
    assert process.wait(timeout=120) == 0
    assert gone(server)


@pytest.mark.parametrize("named", ["environment", "profile"])
def test_where_settings_name_a_server_none_is_started(named, tmp_path, monkeypatch):
    from deployments.embedded import Embedded

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if named == "environment":
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    else:
        profiles = tmp_path / "profiles.toml"
        profiles.write_text('active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "http://127.0.0.1:1/api"\n')
        monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))
    embedded = Embedded()
    assert [process.wait(timeout=120) for process in embedded.started] == ([] if named == "environment" else [0])
    assert embedded.answers()
