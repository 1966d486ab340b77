"""A real `mlflow server` for tests: start it, kill it, and start it again on the same port with the same data."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PATIENCE = 120
"""Seconds a server gets to answer: a first start creates its database, and the machine may be busy."""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class MlflowServer:
    """An MLflow server with a SQLite database and artifacts in `folder`.

    By default it proxies artifacts (`mlflow-artifacts:` addresses). With `serve_artifacts=False` clients read and
    write `folder/artifacts` themselves. More command line options (`--static-prefix /mlflow`) can follow;
    `environment` is added to the server's own.
    """

    def __init__(self, folder: Path, *options: str, serve_artifacts: bool = True, port: int = 0, **environment: str):
        self.folder, self.port = Path(folder), port or free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        artifacts = str(self.folder / "artifacts")
        artifact_options = ["--artifacts-destination", artifacts]
        if not serve_artifacts:
            artifact_options = ["--no-serve-artifacts", "--default-artifact-root", artifacts]
        database = f"sqlite:///{self.folder / 'server.db'}"
        listen = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.command = [sys.executable, "-m", "mlflow", "server", *listen, "--backend-store-uri", database]
        self.command += [*artifact_options, *options]
        # a test's own settings, an address or a password, must not reach the server
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        # the job runner is for MLflow's GenAI features; without it the server starts faster and needs one process less
        self.environment = inherited | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment}

    def start(self) -> "MlflowServer":
        """Start the server and wait until it answers."""
        assert not self.running, "already started"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while not self.answers():
            assert self.running, f"the server ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"no answer in {PATIENCE} s: {self.log.read_text()[-2000:]}"
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """Kill the server and its workers at once (SIGKILL), as an outage does. Its data stays."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self) -> "MlflowServer":
        """Kill the server if it runs, and start it again: same port, same data."""
        self.kill()
        return self.start()

    @property
    def running(self) -> bool:
        """Whether the process is alive, whether it answers or not."""
        return self.process is not None and self.process.poll() is None

    def answers(self) -> bool:
        """Whether the server answers now."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return error.code in (401, 404)  # it asks for a password, or serves under a prefix
        except OSError:
            return False

    def __enter__(self) -> "MlflowServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
